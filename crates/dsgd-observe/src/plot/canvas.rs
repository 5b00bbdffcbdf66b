//! Paper and pens: sizes, colours, the font, and how a picture becomes a file.
//!
//! A picture is drawn once for both formats. The bitmap is drawn three times as large and then made
//! smaller, which smooths every edge; its text comes from the font in this crate, so pictures are the
//! same on a host that has none.

use std::sync::Once;

use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, EmptyElement, PathElement, Polygon, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{
    Color, FontStyle, FontTransform, IntoFont, RGBColor, ShapeStyle, TextStyle, register_font,
};

/// Width of a picture.
pub(super) const WIDTH: f64 = 1200.0;
/// Height of most.
pub(super) const HEIGHT: f64 = 800.0;

/// How many times as large the bitmap is drawn.
const OVERSAMPLING: i32 = 3;

/// What is written with.
pub(super) const INK: RGBColor = RGBColor(0x22, 0x26, 0x2a);
/// What explains.
pub(super) const SOFT: RGBColor = RGBColor(0x5a, 0x61, 0x68);
/// What the eye is led by.
pub(super) const GRID: RGBColor = RGBColor(0xe2, 0xe5, 0xe8);
/// What is written on.
pub(super) const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);

/// Colours that people with any kind of colour vision tell apart, without the yellow, which white paper
/// swallows: Okabe and Ito, 2008.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x00, 0x00, 0x00),
];

/// Marks that go with them; after seven runs the next one.
const MARKS: [Mark; 4] = [Mark::Circle, Mark::Square, Mark::Triangle, Mark::Diamond];

/// More runs than there are colours and marks for cannot be told apart.
pub(super) const MOST_RUNS: usize = COLOURS.len() * MARKS.len();

/// The shape of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Circle,
    Square,
    Triangle,
    Diamond,
}

/// How a run looks, by its place on the command line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pen {
    pub(super) colour: RGBColor,
    pub(super) mark: Mark,
    pub(super) dashed: bool,
}

impl Pen {
    pub(super) fn of(number: usize) -> Self {
        Self {
            colour: COLOURS[number % COLOURS.len()],
            mark: MARKS[number / COLOURS.len() % MARKS.len()],
            dashed: number / COLOURS.len() % 2 == 1,
        }
    }
}

/// What could not be drawn, in words.
pub(super) type Drawn<T = ()> = Result<T, String>;

/// Something that can be drawn.
pub(super) trait Picture {
    /// How high its paper is.
    fn height(&self) -> f64 {
        HEIGHT
    }

    fn draw<B: DrawingBackend>(&self, sheet: &Sheet<'_, B>) -> Drawn;
}

/// The picture as SVG.
pub(super) fn svg(picture: &impl Picture) -> Drawn<String> {
    let mut text = String::new();
    {
        let size = (WIDTH as u32, picture.height() as u32);
        let area = SVGBackend::with_string(&mut text, size);
        paint(picture, &area.into_drawing_area(), 1)?;
    }
    Ok(text)
}

/// The picture as PNG.
pub(super) fn png(picture: &impl Picture) -> Drawn<Vec<u8>> {
    let (width, height) = (WIDTH as u32, picture.height() as u32);
    let times = OVERSAMPLING as u32;
    let mut large = vec![0; (width * height * times * times * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut large, (width * times, height * times));
        paint(picture, &area.into_drawing_area(), OVERSAMPLING)?;
    }
    let small = smaller(&large, width as usize, height as usize);
    encode(&small, width, height).map_err(words)
}

fn paint<B: DrawingBackend>(
    picture: &impl Picture,
    root: &DrawingArea<B, Shift>,
    scale: i32,
) -> Drawn {
    static FONTS: Once = Once::new();
    FONTS.call_once(|| {
        let regular = include_bytes!("../../assets/fonts/Roboto-Regular.ttf");
        let bold = include_bytes!("../../assets/fonts/Roboto-Bold.ttf");
        // If they were no fonts, the first word that is written would say so.
        let _ = register_font("sans-serif", FontStyle::Normal, regular);
        let _ = register_font("sans-serif", FontStyle::Bold, bold);
    });
    root.fill(&PAPER).map_err(words)?;
    picture.draw(&Sheet { root, scale })?;
    root.present().map_err(words)
}

/// Each pixel the mean of those that were drawn for it.
fn smaller(large: &[u8], width: usize, height: usize) -> Vec<u8> {
    let times = OVERSAMPLING as usize;
    let mut small = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3 {
                let mut sum = 0;
                for row in 0..times {
                    let start = ((y * times + row) * width + x) * times * 3 + channel;
                    sum += (0..times)
                        .map(|i| u32::from(large[start + 3 * i]))
                        .sum::<u32>();
                }
                small.push(rounded((sum / (times * times) as u32) as u8));
            }
        }
    }
    small
}

/// One of 32 levels: what the eye does not see need not be stored.
fn rounded(level: u8) -> u8 {
    let step = (u32::from(level) * 31 + 127) / 255;
    (step * 255 / 31) as u8
}

fn encode(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    // Plain areas and lines shrink most as they are.
    encoder.set_filter(png::Filter::NoFilter);
    encoder.write_header()?.write_image_data(pixels)?;
    Ok(file)
}

pub(super) fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Where text stands beside its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// To the right of the point.
    Right,
    /// To the left of it.
    Left,
    /// Centred on it.
    Middle,
    /// Centred on it, and read from bottom to top.
    Upwards,
    /// Centred on it, and read from top to bottom.
    Downwards,
}

/// A picture's paper, in its own pixels whatever it is drawn on.
pub(super) struct Sheet<'a, B: DrawingBackend> {
    root: &'a DrawingArea<B, Shift>,
    scale: i32,
}

impl<B: DrawingBackend> Sheet<'_, B> {
    fn at(&self, (x, y): (f64, f64)) -> (i32, i32) {
        let scaled = |value: f64| (value * f64::from(self.scale)).round() as i32;
        (scaled(x), scaled(y))
    }

    fn style(&self, size: f64, colour: RGBColor, bold: bool) -> TextStyle<'static> {
        let style = if bold {
            FontStyle::Bold
        } else {
            FontStyle::Normal
        };
        // plotters takes the height of a line for a font's size.
        let size = size * 1.2 * f64::from(self.scale);
        ("sans-serif", size, style).into_font().color(&colour)
    }

    /// How wide a text is.
    pub(super) fn width(&self, text: &str, size: f64, bold: bool) -> f64 {
        let style = self.style(size, INK, bold);
        let size = self.root.estimate_text_size(text, &style);
        let estimate = size.map_or(text.len() as f64 * 8.0, |(width, _)| f64::from(width));
        estimate / f64::from(self.scale)
    }

    /// Writes beside a point.
    pub(super) fn text(
        &self,
        text: &str,
        at: (f64, f64),
        size: f64,
        (colour, bold): (RGBColor, bool),
        side: Side,
    ) -> Drawn {
        let style = self.style(size, colour, bold);
        let (h, turn) = match side {
            Side::Right => (HPos::Left, FontTransform::None),
            Side::Left => (HPos::Right, FontTransform::None),
            Side::Middle => (HPos::Center, FontTransform::None),
            Side::Upwards => (HPos::Center, FontTransform::Rotate270),
            Side::Downwards => (HPos::Center, FontTransform::Rotate90),
        };
        let style = style.transform(turn).pos(Pos::new(h, VPos::Center));
        let at = match side {
            // On a bitmap plotters centres the line, and not the letters that stand in it.
            Side::Right | Side::Left | Side::Middle if self.scale > 1 => (at.0, at.1 + 0.18 * size),
            _ => at,
        };
        self.root
            .draw(&Text::new(text.to_owned(), self.at(at), style))
            .map_err(words)
    }

    /// A line through points.
    pub(super) fn line(&self, points: &[(f64, f64)], colour: RGBColor, width: f64) -> Drawn {
        let points: Vec<_> = points.iter().map(|&point| self.at(point)).collect();
        let style = colour.stroke_width(self.stroke(width));
        self.root
            .draw(&PathElement::new(points, style))
            .map_err(words)
    }

    /// The same, in dashes of that length.
    pub(super) fn dashes(
        &self,
        points: &[(f64, f64)],
        colour: RGBColor,
        width: f64,
        dash: f64,
    ) -> Drawn {
        for piece in dashes(points, dash) {
            self.line(&piece, colour, width)?;
        }
        Ok(())
    }

    /// A pale area within corners.
    pub(super) fn area(&self, corners: &[(f64, f64)], colour: RGBColor) -> Drawn {
        let corners: Vec<_> = corners.iter().map(|&corner| self.at(corner)).collect();
        self.root
            .draw(&Polygon::new(corners, colour.mix(0.18).filled()))
            .map_err(words)
    }

    /// A filled rectangle.
    pub(super) fn bar(&self, from: (f64, f64), to: (f64, f64), colour: RGBColor) -> Drawn {
        let corners = [self.at(from), self.at(to)];
        self.root
            .draw(&Rectangle::new(corners, colour.filled()))
            .map_err(words)
    }

    /// A marker with a rim of paper around it, so that it is seen on its own line.
    pub(super) fn mark(&self, at: (f64, f64), radius: f64, pen: Pen) -> Drawn {
        self.shape(at, radius + 1.5, pen.mark, PAPER)?;
        self.shape(at, radius, pen.mark, pen.colour)
    }

    fn shape(&self, (x, y): (f64, f64), radius: f64, mark: Mark, colour: RGBColor) -> Drawn {
        let style: ShapeStyle = colour.filled();
        let polygon = |corners: &[(f64, f64)]| {
            let corner = |&(dx, dy): &(f64, f64)| self.at((x + radius * dx, y + radius * dy));
            Polygon::new(corners.iter().map(corner).collect::<Vec<_>>(), style)
        };
        let drawn = match mark {
            Mark::Circle => {
                let radius = (radius * f64::from(self.scale)).round() as i32;
                let circle = EmptyElement::at(self.at((x, y))) + Circle::new((0, 0), radius, style);
                self.root.draw(&circle)
            }
            Mark::Square => {
                let square = [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)];
                self.root.draw(&polygon(&square))
            }
            Mark::Triangle => {
                let triangle = [(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)];
                self.root.draw(&polygon(&triangle))
            }
            Mark::Diamond => {
                let diamond = [(0.0, -1.2), (1.2, 0.0), (0.0, 1.2), (-1.2, 0.0)];
                self.root.draw(&polygon(&diamond))
            }
        };
        drawn.map_err(words)
    }

    fn stroke(&self, width: f64) -> u32 {
        (width * f64::from(self.scale)).round().max(1.0) as u32
    }
}

/// Cuts a line into dashes; the gaps are as long.
fn dashes(points: &[(f64, f64)], dash: f64) -> Vec<Vec<(f64, f64)>> {
    let mut pieces = Vec::new();
    let mut piece: Vec<_> = points.first().copied().into_iter().collect();
    let (mut left, mut drawn) = (dash, true);
    for pair in points.windows(2) {
        let (mut from, to) = (pair[0], pair[1]);
        loop {
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            if length < left {
                left -= length;
                piece.push(to);
                break;
            }
            let share = left / length;
            from = (
                from.0 + share * (to.0 - from.0),
                from.1 + share * (to.1 - from.1),
            );
            piece.push(from);
            if drawn {
                pieces.push(std::mem::take(&mut piece));
            }
            piece = vec![from];
            (left, drawn) = (dash, !drawn);
        }
    }
    if drawn && piece.len() > 1 {
        pieces.push(piece);
    }
    pieces
}
