//! Gradients, tensor by tensor: dense, or the touched rows of a table.

use std::sync::Arc;

use super::{Kind, Layout, Rule, Tensor, TensorId};

/// The gradient of one batch, in a buffer that is allocated once and reused.
///
/// It starts, and after [`Gradient::clear`] is again, zero everywhere. Memory is
/// that of the dense tensors, and of the most rows that any batch has touched.
#[derive(Clone, Debug)]
pub struct Gradient {
    layout: Arc<Layout>,
    tensors: Vec<TensorGradient>,
}

/// The gradient of one tensor.
#[derive(Clone, Debug)]
pub enum TensorGradient {
    /// Every element, row-major.
    Dense(Vec<f32>),
    /// The touched rows.
    Rows(Rows),
}

/// Touched rows of a table, each once, in the order in which they were first touched.
#[derive(Clone, Debug)]
pub struct Rows {
    width: usize,
    index: Vec<u32>,
    values: Vec<f32>,
    /// For each row of the table its place in `index`, or `UNTOUCHED`.
    place: Vec<u32>,
}

const UNTOUCHED: u32 = u32::MAX;

impl Gradient {
    /// A zero gradient for that layout.
    pub fn new(layout: Arc<Layout>) -> Self {
        let part = |t: &Tensor| match t.kind {
            Kind::Dense => TensorGradient::Dense(vec![0.0; t.range.len()]),
            Kind::Rows => TensorGradient::Rows(Rows::new(t.shape[0], t.width())),
        };
        let tensors = layout.tensors().iter().map(part).collect();
        Self { layout, tensors }
    }

    /// The table of tensors.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Makes it zero again, touching only what was written: dense tensors and touched rows.
    pub fn clear(&mut self) {
        for part in &mut self.tensors {
            match part {
                TensorGradient::Dense(values) => values.fill(0.0),
                TensorGradient::Rows(rows) => rows.clear(),
            }
        }
    }

    /// Every tensor's gradient, in the order of the layout.
    pub fn tensors(&self) -> &[TensorGradient] {
        &self.tensors
    }

    /// Every tensor's gradient, in the order of the layout: for kernels that write several at once.
    pub fn tensors_mut(&mut self) -> &mut [TensorGradient] {
        &mut self.tensors
    }

    /// A dense tensor's gradient, row-major, to be added to.
    ///
    /// # Panics
    /// When the tensor was declared with [`Layout::rows`].
    pub fn dense(&mut self, id: TensorId) -> &mut [f32] {
        self.tensors[id.0].as_dense()
    }

    /// The gradient of one row of a table, zero when it is first touched, to be added to.
    ///
    /// # Panics
    /// When the tensor was declared with [`Layout::dense`], or has no such row.
    pub fn row(&mut self, id: TensorId, row: usize) -> &mut [f32] {
        self.tensors[id.0].as_rows().row(row)
    }

    /// Multiplies all of it by `factor`.
    pub fn scale(&mut self, factor: f32) {
        for part in &mut self.tensors {
            match part {
                TensorGradient::Dense(values) => values.iter_mut().for_each(|g| *g *= factor),
                TensorGradient::Rows(rows) => rows.scale(factor),
            }
        }
    }

    /// Adds `factor · other`, element by element.
    pub fn add(&mut self, other: &Gradient, factor: f32) {
        assert_eq!(
            self.layout, other.layout,
            "gradients of two different models"
        );
        for (mine, theirs) in self.tensors.iter_mut().zip(&other.tensors) {
            match (mine, theirs) {
                (TensorGradient::Dense(a), TensorGradient::Dense(b)) => add_scaled(a, b, factor),
                (TensorGradient::Rows(a), TensorGradient::Rows(b)) => a.add(b, factor),
                _ => unreachable!("equal layouts have equal kinds"),
            }
        }
    }

    /// Sum of squares of all elements of tensors that are trained. Not finite when an element is not, or is beyond 1e19.
    pub fn sum_of_squares(&self) -> f64 {
        let tensors = self.layout.tensors().iter().zip(&self.tensors);
        let trained = tensors.filter(|(tensor, _)| tensor.rule != Rule::Added);
        let squares = trained.map(|(_, part)| match part {
            TensorGradient::Dense(values) => sum_of_squares(values),
            TensorGradient::Rows(rows) => sum_of_squares(&rows.values),
        });
        squares.sum()
    }
}

impl TensorGradient {
    /// The elements of a dense tensor.
    ///
    /// # Panics
    /// When it is a table of rows.
    pub fn as_dense(&mut self) -> &mut [f32] {
        match self {
            TensorGradient::Dense(values) => values,
            TensorGradient::Rows(_) => panic!("this tensor was declared with Layout::rows"),
        }
    }

    /// The rows of a table.
    ///
    /// # Panics
    /// When it is a dense tensor.
    pub fn as_rows(&mut self) -> &mut Rows {
        match self {
            TensorGradient::Rows(rows) => rows,
            TensorGradient::Dense(_) => panic!("this tensor was declared with Layout::dense"),
        }
    }
}

impl Rows {
    fn new(rows: usize, width: usize) -> Self {
        Self {
            width,
            index: Vec::new(),
            values: Vec::new(),
            place: vec![UNTOUCHED; rows],
        }
    }

    /// No row is touched any more.
    pub fn clear(&mut self) {
        for &row in &self.index {
            self.place[row as usize] = UNTOUCHED;
        }
        self.index.clear();
        self.values.clear();
    }

    /// The gradient of one row, zero when it is first touched, to be added to.
    ///
    /// # Panics
    /// When the table has no such row.
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        if self.place[row] == UNTOUCHED {
            self.place[row] = self.index.len() as u32;
            self.index.push(row as u32);
            self.values.resize(self.index.len() * self.width, 0.0);
        }
        let at = self.place[row] as usize * self.width;
        &mut self.values[at..at + self.width]
    }

    /// The gradient of one row, if it is touched.
    pub fn get(&self, row: usize) -> Option<&[f32]> {
        let place = self.place.get(row).filter(|&&place| place != UNTOUCHED)?;
        self.values
            .get(*place as usize * self.width..)?
            .get(..self.width)
    }

    /// Multiplies all of it by `factor`.
    pub fn scale(&mut self, factor: f32) {
        self.values.iter_mut().for_each(|g| *g *= factor);
    }

    /// Adds `factor · other`, row by row, in the order in which `other` has them.
    ///
    /// # Panics
    /// When the table has no such row, or rows of another width.
    pub fn add(&mut self, other: &Rows, factor: f32) {
        assert_eq!(self.width, other.width, "rows of two different tables");
        for (row, values) in other.iter() {
            add_scaled(self.row(row), values, factor);
        }
    }

    /// The touched rows' numbers and gradients.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[f32])> {
        let rows = self.index.iter().enumerate();
        // Not chunks_exact: a table may have no columns.
        rows.map(|(place, &row)| {
            (
                row as usize,
                &self.values[place * self.width..][..self.width],
            )
        })
    }

    /// Which rows are touched.
    pub fn indices(&self) -> &[u32] {
        &self.index
    }

    /// The touched rows' gradients, one row after the other.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Elements of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows of the whole table.
    pub fn table_len(&self) -> usize {
        self.place.len()
    }

    /// Number of touched rows.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no row is touched.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }
}

fn add_scaled(into: &mut [f32], from: &[f32], factor: f32) {
    for (a, b) in into.iter_mut().zip(from) {
        *a += factor * b;
    }
}

/// Sum of squares of all elements. Not finite when an element is not, or is beyond 1e19.
pub fn sum_of_squares(values: &[f32]) -> f64 {
    let mut total = 0.0;
    add_squares(&mut total, bytemuck::cast_slice(values));
    total
}

/// Elements of a block of [`add_squares`].
pub const SQUARES_BLOCK: usize = 4096;

/// Adds the squares of `f32` values, which may lie anywhere, block by block: a vector that comes in
/// pieces of whole blocks gives the same sum, to the bit, as one that comes whole. Sixteen running
/// sums, so that the compiler may use vectors.
pub fn add_squares(total: &mut f64, values: &[[u8; 4]]) {
    const LANES: usize = 16;
    let square = |value: &[u8; 4]| f32::from_ne_bytes(*value).powi(2);
    for block in values.chunks(SQUARES_BLOCK) {
        let mut sums = [0.0f32; LANES];
        let lanes = block.chunks_exact(LANES);
        let rest = lanes.remainder();
        for lane in lanes {
            for (sum, g) in sums.iter_mut().zip(lane) {
                *sum += square(g);
            }
        }
        let rest: f32 = rest.iter().map(square).sum();
        *total += sums.iter().map(|&s| f64::from(s)).sum::<f64>() + f64::from(rest);
    }
}
