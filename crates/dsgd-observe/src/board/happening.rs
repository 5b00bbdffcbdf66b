//! What happens beside the steps.

use serde::{Deserialize, Serialize};

/// What a happening is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HappeningKind {
    /// A worker joined.
    Joined,
    /// A worker is gone.
    Lost,
    /// A gradient was refused.
    Refused,
    /// A batch goes to another worker.
    Freed,
    /// A batch was left out of its epoch.
    LeftOut,
    /// A checkpoint was written.
    Saved,
    /// Something that the user should know.
    Warning,
    /// The server was started again, or the run resumed.
    Resumed,
    /// A host was added to the run, or dropped from it.
    Hosts,
    /// Workers work together in another way, or what became of that.
    Plan,
}

/// Something that happened beside the steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Happening {
    /// Seconds of training.
    pub secs: f64,
    /// What it is.
    pub kind: HappeningKind,
    /// The worker, where it is one's.
    pub worker: Option<String>,
    /// In words.
    pub words: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page's timeline fails on a kind that it has no word for.
    #[test]
    fn the_page_has_a_word_for_each_kind() {
        use HappeningKind::*;
        let all = [
            Joined, Lost, Refused, Freed, LeftOut, Saved, Warning, Resumed, Hosts, Plan,
        ];
        let timeline = include_str!("../../assets/page/timeline.js");
        let words = timeline.split("const KINDS = {").nth(1).unwrap();
        let words = words.split("};").next().unwrap();
        for kind in all {
            match kind {
                Joined | Lost | Refused | Freed | LeftOut | Saved | Warning | Resumed | Hosts
                | Plan => {}
            }
            let name = serde_json::to_value(kind).unwrap();
            let name = name.as_str().unwrap();
            assert!(words.contains(&format!("{name}: [")), "{name}");
        }
    }
}
