//! The curve of the run's metric over epochs.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, LegendPosition, Widget};

use super::style::{DIM, value};
use crate::board::Board;
use dsgd_core::task::Stats;

/// The metric, a perplexity on a logarithmic scale: training as a line, validation as points.
pub(super) fn draw(board: &Board, area: Rect, cells: &mut Buffer) {
    let metric = board.metric();
    let finite = |&(_, y): &(f64, f64)| y.is_finite();
    // No more points than columns: the mean of several says more than their scatter, which lies pale behind.
    let buckets = &board.series.buckets;
    let columns = usize::from(area.width.max(1));
    let group = buckets.len().div_ceil(columns).max(1);
    let points = buckets.chunks(group);
    let train = points.filter_map(|buckets| {
        let mut sum = Stats::default();
        for bucket in buckets {
            sum.add(&bucket.stats);
        }
        Some((buckets.last()?.epochs, metric.linear(&sum)))
    });
    let train: Vec<_> = train.filter(finite).collect();
    let extremes = buckets
        .iter()
        .filter(|bucket| group > 1 || bucket.steps > 1);
    let extremes = extremes.flat_map(|b| [(b.epochs, b.lowest), (b.epochs, b.highest)]);
    let extremes: Vec<_> = extremes.filter(finite).collect();
    let valid = board.done.iter().filter_map(|row| {
        let valid = row.validation?;
        Some((f64::from(row.epoch), metric.linear(&valid)))
    });
    let valid: Vec<_> = valid.filter(finite).collect();
    let all = || train.iter().chain(&valid).chain(&extremes);
    let low = all().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let high = all().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
    let from = all().map(|p| p.0).fold(f64::INFINITY, f64::min);
    let to = all().map(|p| p.0).fold(f64::NEG_INFINITY, f64::max);
    if train.len() < 2 {
        let words = format!("the curve of {} begins with the second step", metric.name);
        return Line::styled(words, DIM).render(area, cells);
    }
    let high = high.max(low + 1e-3);
    let to = to.max(from + 1e-3);
    let labels =
        [low, f64::midpoint(low, high), high].map(|linear| value(metric, metric.of_linear(linear)));
    let sets = vec![
        // The lowest and the highest step of those that a point of the line is the mean of.
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Scatter)
            .style(DIM)
            .data(&extremes),
        Dataset::default()
            .name("train")
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(Color::Indexed(12)))
            .data(&train),
        Dataset::default()
            .name("valid")
            .marker(Marker::Dot)
            .graph_type(GraphType::Scatter)
            .style(Style::new().fg(Color::Indexed(11)))
            .data(&valid),
    ];
    let epochs = [from, to].map(|epoch| format!("{epoch:.1}"));
    Chart::new(sets)
        .x_axis(
            Axis::default()
                .title("epochs")
                .style(DIM)
                .bounds([from, to])
                .labels(epochs),
        )
        .y_axis(
            Axis::default()
                .title(metric.name.clone())
                .style(DIM)
                .bounds([low, high])
                .labels(labels),
        )
        .legend_position(Some(LegendPosition::TopRight))
        .hidden_legend_constraints((
            ratatui::layout::Constraint::Percentage(50),
            ratatui::layout::Constraint::Percentage(80),
        ))
        .render(area, cells);
}
