use std::fs;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

fn host(user: Option<&str>, name: &str, port: Option<u16>, slots: Option<usize>) -> Host {
    Host {
        user: user.map(str::to_owned),
        name: name.to_owned(),
        port,
        slots,
        python: None,
    }
}

fn wrong(result: Result<Vec<Host>, HostsError>) -> Wrong {
    match result {
        Err(HostsError::Entry { wrong, .. }) => wrong,
        other => panic!("{other:?}"),
    }
}

#[test]
fn lines_of_every_kind_are_read() {
    for (line, expected) in [
        ("192.168.0.7", host(None, "192.168.0.7", None, None)),
        ("h1", host(None, "h1", None, None)),
        ("bob@h1", host(Some("bob"), "h1", None, None)),
        ("h1:2222", host(None, "h1", Some(2222), None)),
        ("h1 slots=4", host(None, "h1", None, Some(4))),
        ("h1\tslots = 4", host(None, "h1", None, Some(4))),
        ("  h1  # the fast one", host(None, "h1", None, None)),
        ("h1#slots=4", host(None, "h1", None, None)),
        ("h1 slots=4 max_slots=8", host(None, "h1", None, Some(4))),
        ("h1 max-slots=8 slots=4", host(None, "h1", None, Some(4))),
        ("h1 max_slots=8", host(None, "h1", None, Some(8))),
        (
            "h1 python=/opt/py/bin/python3 slots = 4",
            Host {
                python: Some("/opt/py/bin/python3".to_owned()),
                ..host(None, "h1", None, Some(4))
            },
        ),
        ("worker-1 slots=4", host(None, "worker-1", None, Some(4))),
        ("a@b.org@h1", host(Some("a@b.org"), "h1", None, None)),
        ("[fe80::1]:22", host(None, "fe80::1", Some(22), None)),
        ("a@[::1]", host(Some("a"), "::1", None, None)),
        ("fe80::1", host(None, "fe80::1", None, None)),
        (
            "[fe80::1%eth0]:22",
            host(None, "fe80::1%eth0", Some(22), None),
        ),
        (
            "bob@gpu_1.example.org:65535 slots=4096",
            host(Some("bob"), "gpu_1.example.org", Some(65535), Some(4096)),
        ),
    ] {
        assert_eq!(parse(line, "f").unwrap(), [expected], "{line}");
    }
}

#[test]
fn a_list_on_the_command_line_has_slots_after_the_colon() {
    assert_eq!(
        parse_list("h1:4, h2:2,user@h3,[::1]:8").unwrap(),
        [
            host(None, "h1", None, Some(4)),
            host(None, "h2", None, Some(2)),
            host(Some("user"), "h3", None, None),
            host(None, "::1", None, Some(8)),
        ]
    );
    for (text, expected) in [
        ("h1:4:5", Wrong::Colons("slots")),
        ("h1:0", Wrong::Slots("slots", "0".to_owned())),
        ("h1,,h2", Wrong::NoName),
        ("h1 slots=4", Wrong::Character(' ')),
        ("h1:", Wrong::Slots("slots", String::new())),
    ] {
        assert_eq!(wrong(parse_list(text)), expected, "{text}");
    }
    let error = parse_list("h1,-v").unwrap_err().to_string();
    assert_eq!(
        error,
        "-H, entry 2: \"-v\": a name begins with '-'; expected a letter or a digit"
    );
}

#[test]
fn windows_line_ends_marks_blank_lines_and_comments_are_no_hosts() {
    let text = "\u{feff}# mine\r\n\r\n  \t\r\nh1 slots=2\r\n\r\n#h2\r\nh3";
    let hosts = parse(text, "f").unwrap();
    assert_eq!(
        hosts,
        [
            host(None, "h1", None, Some(2)),
            host(None, "h3", None, None)
        ]
    );
}

#[test]
fn each_way_to_be_wrong_is_reported() {
    let long = "h".repeat(256);
    for (line, expected) in [
        ("@h1", Wrong::NoUser),
        ("bob@", Wrong::NoName),
        (":22", Wrong::NoName),
        ("-oProxyCommand=x", Wrong::Start('-')),
        ("-l@h1", Wrong::Start('-')),
        ("bob@-v", Wrong::Start('-')),
        ("..", Wrong::Start('.')),
        ("h1;reboot", Wrong::Character(';')),
        ("$(reboot)", Wrong::Character('$')),
        ("h1`x`", Wrong::Character('`')),
        ("a/b", Wrong::Character('/')),
        ("h1,h2", Wrong::Character(',')),
        ("h*", Wrong::Character('*')),
        ("h[1-4]", Wrong::Character('[')),
        ("%h", Wrong::Character('%')),
        ("b'b@h1", Wrong::Character('\'')),
        ("h\0", Wrong::Character('\0')),
        (&long, Wrong::LongName),
        ("[h1]:22", Wrong::Brackets),
        ("[fe80::1", Wrong::Brackets),
        ("[fe80::1]22", Wrong::Brackets),
        ("fe80::1%", Wrong::Colons("port")),
        ("h1:22:22", Wrong::Colons("port")),
        ("h1:0", Wrong::Port("0".to_owned())),
        ("h1:65536", Wrong::Port("65536".to_owned())),
        ("h1:+22", Wrong::Port("+22".to_owned())),
        ("h1:", Wrong::Port(String::new())),
        ("h1 slots=0", Wrong::Slots("slots", "0".to_owned())),
        ("h1 slots=4097", Wrong::Slots("slots", "4097".to_owned())),
        ("h1 slots=many", Wrong::Slots("slots", "many".to_owned())),
        ("h1 slots", Wrong::Slots("slots", String::new())),
        (
            "h1 slots=4 max_slots=2",
            Wrong::MaxSlots { slots: 4, max: 2 },
        ),
        ("h1 slots=4 slots=4", Wrong::Twice("slots")),
        ("h1 python", Wrong::Python),
        ("h1 python=", Wrong::Python),
        ("h1 python=a python=b", Wrong::Twice("python")),
        ("h1 user=bob", Wrong::Option("user".to_owned())),
        ("h1 h2", Wrong::Option("h2".to_owned())),
    ] {
        assert_eq!(wrong(parse(line, "f")), expected, "{line}");
    }
}

#[test]
fn an_error_names_file_line_and_what_is_expected() {
    let error = parse("h1\n\nh2:ssh\n", "client_list.txt").unwrap_err();
    assert_eq!(
        error.to_string(),
        "client_list.txt:3: \"h2:ssh\": the port is \"ssh\"; expected a number from 1 to 65535"
    );
    let long = format!("h1 {}", "x".repeat(10_000));
    assert!(parse(&long, "f").unwrap_err().to_string().len() < 400);
}

#[test]
fn a_host_that_is_there_twice_has_the_slots_of_both() {
    let slots = |text| parse(text, "f").map(|hosts| (hosts.len(), hosts[0].slots));
    assert_eq!(slots("h1 slots=2\nh2\nh1 slots=3").unwrap(), (2, Some(5)));
    // An address a worker, as the ancestor had it.
    assert_eq!(slots("h1\nh1\nh1").unwrap(), (1, Some(3)));
    assert_eq!(parse_list("h1,h1").unwrap()[0].slots, Some(2));
    let place = || "f:1".to_owned();
    for (text, expected) in [
        ("a@h1\nb@h1", Wrong::Contradiction(place())),
        ("h1\n\nh1:22", Wrong::Contradiction(place())),
        ("h1 slots=2\nh1", Wrong::SlotsOnce(place())),
        ("h1\nh1\nh1 slots=2", Wrong::SlotsOnce(place())),
        (
            "h1 slots=4096\nh1 slots=1",
            Wrong::ManySlots {
                place: place(),
                slots: 4097,
            },
        ),
    ] {
        assert_eq!(wrong(parse(text, "f")), expected, "{text}");
    }
}

#[test]
fn a_list_has_an_end() {
    let list = |hosts: usize| {
        let names: Vec<_> = (0..hosts).map(|n| format!("h{n}")).collect();
        names.join("\n")
    };
    assert_eq!(parse(&list(4096), "f").unwrap().len(), 4096);
    assert_eq!(wrong(parse(&list(4097), "f")), Wrong::ManyHosts);
}

#[test]
fn a_list_without_a_host_is_an_error() {
    for text in ["", "\n\n", "# nobody\r\n", "\u{feff}"] {
        let error = parse(text, "f").unwrap_err().to_string();
        assert!(error.starts_with("f: there is no host in it"), "{error}");
    }
    assert!(matches!(parse_list(" "), Err(HostsError::NoHost { .. })));
}

#[test]
fn a_file_is_read_or_its_name_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client_list.txt");
    fs::write(&file, "10.0.0.1\n10.0.0.2\n").unwrap();
    assert_eq!(read_file(&file).unwrap().len(), 2);
    let says = |path: &Path| read_file(path).unwrap_err().to_string();
    fs::write(&file, b"h1\n\xff\xfeh2").unwrap();
    assert!(says(&file).contains("client_list.txt: it is not UTF-8 text"));
    fs::write(&file, "\n".repeat(MOST_FILE_BYTES as usize + 1)).unwrap();
    assert!(says(&file).contains("client_list.txt: it is too long"));
    assert!(says(&folder.path().join("none")).contains("pass --hosts FILE"));
    assert!(says(folder.path()).starts_with("cannot read "));
}

#[test]
fn workers_go_round_the_hosts() {
    let spread = |slots: &[usize], workers| spread(slots, workers).unwrap();
    assert_eq!(spread(&[4, 2, 1], None), [4, 2, 1]);
    assert_eq!(spread(&[4, 2, 1], Some(2)), [1, 1, 0]);
    assert_eq!(spread(&[4, 2, 1], Some(5)), [2, 2, 1]);
    assert_eq!(spread(&[4, 2, 1], Some(6)), [3, 2, 1]);
    assert_eq!(spread(&[4, 2, 1], Some(7)), [4, 2, 1]);
    assert_eq!(spread(&[1, 1], Some(0)), [0, 0]);
    let error = super::spread(&[4, 2, 1], Some(8)).unwrap_err().to_string();
    assert_eq!(
        error,
        "-n 8 is more than the 7 slots of 3 hosts; pass -n 7 or less, leave -n out, or make \
         room by slots=N in the host list (-H h1:N)"
    );
    assert!(super::spread(&[], Some(1)).is_err());
}

/// Whatever is read, nothing panics, and what is accepted is within bounds and reads the same again.
#[test]
fn garbage_is_an_error_or_hosts_within_bounds() {
    let pieces = [
        "h1",
        "h2",
        "bob",
        "@",
        ":",
        "22",
        "4097",
        "slots",
        "python",
        "/a/b",
        "max_slots",
        "=",
        " ",
        "\t",
        "\n",
        "\r\n",
        "#",
        "[",
        "]",
        "::1",
        "fe80::1",
        "%",
        "-",
        "--",
        ",",
        "\u{feff}",
        "é",
        "\0",
        "'",
        "$",
        "0",
        "99999999999999999999999",
        "\u{a0}",
        ".",
        "/",
        "\\",
    ];
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let length = rng.random_range(0..12);
        let text: String = (0..length)
            .map(|_| pieces[rng.random_range(0..pieces.len())])
            .collect();
        for hosts in [parse(&text, "f"), parse_list(&text)].into_iter().flatten() {
            accepted += 1;
            assert!(!hosts.is_empty());
            for host in hosts {
                let plain = |c: char| c.is_alphanumeric() || ".-_:%".contains(c);
                assert!(
                    host.name.chars().all(plain) && !host.name.starts_with('-'),
                    "{text:?}"
                );
                assert!(host.slots.is_none_or(|slots| slots > 0));
                let line = host.to_line();
                assert_eq!(parse(&line, "f").unwrap(), [host], "{text:?}");
            }
        }
    }
    assert!(accepted > 100, "{accepted}");
}
