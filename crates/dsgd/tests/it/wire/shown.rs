//! What a worker says of itself is shown to people, and commands nobody's terminal.

use dsgd_engine::server::Message;
use dsgd_engine::wire::proto::{self, push_part};

use crate::wire::Served;

const EVIL: &str =
    "\x1b]0;title\x07\x1b]52;c;ZXZpbA==\x07h9/0\n     1.000 Run finished\u{202e}\x1b[2J";
const SHOWN: &str = "h9/0      1.000 Run finished";

#[test]
fn names_and_reasons_are_one_line_without_commands() {
    let served = Served::new(dsgd::Layout::default());
    let (name, failed, left) = served.run(async {
        let mut caller = served.joined(EVIL).await;
        let _pulses = caller.live().await.unwrap();
        let Message::Join { name, .. } = served.news() else {
            panic!("nobody joins")
        };
        let reason = EVIL.to_owned();
        let failure = proto::Failed {
            lease: 1,
            reason,
            fatal: false,
        };
        let failed = caller.push(vec![push_part::Part::Failed(failure)]).await;
        let reason = EVIL.to_owned();
        let leave = caller.request(proto::LeaveRequest { reason });
        caller.client.leave(leave).await.unwrap();
        let Message::Lost { reason: left, .. } = served.news() else {
            panic!("nobody leaves")
        };
        (name, failed, left)
    });
    assert_eq!(name, SHOWN);
    assert_eq!(left, SHOWN);
    // It has no lease: what it says of one is refused without being repeated.
    let refused = failed.unwrap_err();
    assert!(!refused.message().contains('\x1b'), "{refused}");
    // Nothing to show is no name.
    let nameless = served.run(async {
        let mut caller = served.joined("\x1b]0;title\x07").await;
        let _pulses = caller.live().await.unwrap();
        loop {
            // The end of the first one's connection is told, too.
            if let Message::Join { name, .. } = served.news() {
                break name;
            }
        }
    });
    assert_eq!(nameless, "unnamed");
}
