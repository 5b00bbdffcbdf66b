//! Figures as people read them.

use crate::duration;
use dsgd_core::metric::{Metric, Value};

/// `12345` as `12,345`.
pub fn whole(number: impl std::fmt::Display) -> String {
    crate::plot::grouped(&number.to_string())
}

/// A rate or another figure, with as many digits as are read.
pub fn rate(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => crate::plot::grouped(&format!("{value:.0}")),
    }
}

/// A metric's value.
pub fn value(metric: &Metric, value: f64) -> String {
    match value {
        value if metric.value != Value::Perplexity => metric.words(value),
        1e6.. => format!("{value:.2e}"),
        100.0.. => crate::plot::grouped(&format!("{value:.1}")),
        value => format!("{value:.2}"),
    }
}

/// A share as `12.3 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Bytes in decimal units.
pub fn bytes(bytes: u64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let bytes = bytes as f64;
    let unit = units.into_iter().find(|(size, _)| bytes >= *size);
    unit.map_or(format!("{bytes:.0} B"), |(size, unit)| {
        format!("{} {unit}", rate(bytes / size))
    })
}

/// Seconds of work: as a duration, with decimals where there are few.
pub fn secs(secs: f64) -> String {
    match secs {
        ..=0.0 => "0 s".to_owned(),
        ..0.1 => format!("{} ms", rate(1e3 * secs)),
        ..10.0 => format!("{secs:.2} s"),
        10.0..60.0 => format!("{secs:.1} s"),
        _ => duration(secs),
    }
}

/// A count and its noun.
pub fn count(number: u64, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{} {one}s", whole(number)),
    }
}

/// Seconds since 1970 as a date and time of day in UTC (days to dates: H. Hinnant, `civil_from_days`).
pub fn date(unix_secs: f64) -> String {
    let secs = unix_secs.clamp(0.0, 1e11) as i64;
    let (days, secs) = (secs / 86_400 + 719_468, secs % 86_400);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02} UTC",
        secs / 3600,
        secs / 60 % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_by_people() {
        // `date -u -d @1795516986` and `date -u -d 2024-02-29T23:59Z +%s`.
        assert_eq!(date(1_795_516_986.2), "2026-11-24 10:43 UTC");
        assert_eq!(date(1_709_251_140.0), "2024-02-29 23:59 UTC");
        assert_eq!(whole(1_234_567), "1,234,567");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(149_000_000), "149 MB");
        assert_eq!(rate(3.456), "3.46");
        assert_eq!(count(1, "batch"), "1 batch");
        let shown = [1.0, 1234.56, 2e6].map(|ppl| value(&Metric::perplexity(), ppl));
        assert_eq!(shown, ["1.00", "1,234.6", "2.00e6"]);
        assert_eq!(value(&Metric::accuracy(), 97.5), "97.50 %");
        assert_eq!(secs(3723.0), "1h 02m");
        assert_eq!(secs(0.0123), "12.3 ms");
    }
}
