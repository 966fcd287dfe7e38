//! Decisions and how long they took, over time: bars and lines for an inline SVG, without a script.

use super::rows::{Came, Row, moment, percentile};

/// Bars of a chart.
const BARS: usize = 48;
/// The height of a chart, in its own units; a bar is ten wide.
const HEIGHT: u64 = 100;

/// A span of time, cut into pieces.
#[derive(Debug, Default)]
pub(super) struct Chart {
    pub bars: Vec<Bar>,
    /// The most decisions of a piece.
    pub most: u64,
    /// The longest of the slow ones, in milliseconds.
    pub slowest: u64,
    pub from: String,
    pub to: String,
    pub allowed: u64,
    pub denied: u64,
    pub failed: u64,
    /// Points of the lines, as an SVG polyline has them.
    pub usual: String,
    pub slow: String,
}

/// One piece of time.
#[derive(Debug, Default)]
pub(super) struct Bar {
    pub x: usize,
    /// When it begins.
    pub when: String,
    pub allowed: Piece,
    pub failed: Piece,
    pub denied: Piece,
    took: Vec<u64>,
}

/// A part of a bar.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Piece {
    pub count: u64,
    pub y: u64,
    pub height: u64,
}

impl Bar {
    pub const fn is_empty(&self) -> bool {
        self.allowed.count + self.failed.count + self.denied.count == 0
    }
}

impl Chart {
    /// Of the decisions among rows, between two times in milliseconds.
    pub fn of(rows: &[Row], from: u64, to: u64) -> Self {
        let step = to.saturating_sub(from).div_ceil(BARS as u64).max(1);
        let bar = |at: usize| Bar { x: at * 10, when: moment(from + step * at as u64), ..Bar::default() };
        let mut bars: Vec<Bar> = (0..BARS).map(bar).collect();
        let of_time = rows.iter().filter(|row| row.decides() && (from..to).contains(&row.time));
        for row in of_time {
            let at = usize::try_from((row.time - from) / step).unwrap_or(usize::MAX);
            let Some(bar) = bars.get_mut(at) else { continue };
            match row.came {
                Came::Allowed => bar.allowed.count += 1,
                Came::Denied => bar.denied.count += 1,
                Came::Failed => bar.failed.count += 1,
                Came::Open => {}
            }
            bar.took.extend(row.took.filter(|_| row.came == Came::Allowed));
        }
        let all = |bar: &Bar| bar.allowed.count + bar.denied.count + bar.failed.count;
        let most = bars.iter().map(all).max().unwrap_or_default();
        let slowest = bars.iter().filter_map(|bar| percentile(&bar.took, 95)).max().unwrap_or_default();
        let mut chart = Self { most, slowest, from: moment(from), to: moment(to), ..Self::default() };
        for bar in &mut bars {
            chart.allowed += bar.allowed.count;
            chart.denied += bar.denied.count;
            chart.failed += bar.failed.count;
            let mut top = HEIGHT;
            for piece in [&mut bar.allowed, &mut bar.failed, &mut bar.denied] {
                // Whatever there is is seen.
                let exact = piece.count * HEIGHT / most.max(1);
                piece.height = if piece.count == 0 { 0 } else { exact.clamp(1, top) };
                top -= piece.height;
                piece.y = top;
            }
        }
        let line = |percent: usize| -> String {
            let points = bars.iter().filter_map(|bar| {
                let took = percentile(&bar.took, percent)?;
                Some(format!("{},{}", bar.x + 5, HEIGHT - took * HEIGHT / slowest.max(1).max(took)))
            });
            points.collect::<Vec<_>>().join(" ")
        };
        chart.usual = line(50);
        chart.slow = line(95);
        chart.bars = bars;
        chart
    }

    /// How wide it is.
    pub const fn width(&self) -> usize {
        BARS * 10
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::audit::query::Found;

    fn at(time: u64, phase: &str, took: u64) -> Row {
        let value = json!({
            "time": time, "duration": took, "http_response": {"code": 200},
            "unmapped": {"amlgate": {"phase": phase, "ending": "completed"}},
        });
        Row::of(&Found { position: 0, line: Vec::new(), value, vouched: true })
    }

    #[test]
    fn each_decision_counts_once_in_its_piece_and_no_bar_leaves_the_chart() {
        let mut rows: Vec<_> = (0..1_000).map(|_| at(5, "outcome", 10)).collect();
        rows.push(at(5, "denial", 0));
        rows.push(at(479, "outcome", 1_000));
        rows.push(at(479, "intent", 0));
        rows.push(at(480, "outcome", 7));
        let chart = Chart::of(&rows, 0, 480);
        assert_eq!((chart.allowed, chart.denied, chart.failed, chart.most), (1_001, 1, 0, 1_001));
        assert_eq!(chart.bars.len(), BARS);
        let (first, last) = (&chart.bars[0], &chart.bars[BARS - 1]);
        assert_eq!((first.allowed.count, first.denied.count, last.allowed.count), (1_000, 1, 1));
        assert_eq!((first.denied.height, last.allowed.height), (1, 1), "one among many is seen");
        for bar in &chart.bars {
            for piece in [bar.allowed, bar.failed, bar.denied] {
                assert!(piece.y + piece.height <= HEIGHT, "{bar:?}");
            }
        }
        assert_eq!(chart.slow, "5,99 475,0");
    }

    #[test]
    fn where_nothing_happened_there_is_a_chart_all_the_same() {
        let chart = Chart::of(&[], 10, 10);
        assert!(chart.bars.iter().all(Bar::is_empty));
        assert_eq!((chart.most, chart.usual.as_str()), (0, ""));
    }
}
