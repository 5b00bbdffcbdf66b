//! Pictures: what stands on them, and logs of the ancestor beside new runs.

use std::fs;

use dsgd_observe::plot::{Point, Source};

use super::text;
use crate::program::{self, Program};

/// Texts of an SVG, in the order of drawing.
fn words(svg: &str) -> Vec<String> {
    let texts = svg.split("<text ").skip(1);
    let inside = texts.map(|text| {
        let text = text.split_once('>').unwrap().1;
        text.split_once("</text>").unwrap().0.trim().to_owned()
    });
    inside.collect()
}

/// Lines of several points in that colour.
fn curves(svg: &str, colour: &str) -> usize {
    let lines = svg.split("<polyline ").skip(1);
    let long = lines.filter(|line| {
        let line = line.split_once("/>").unwrap().0;
        let points = line.split("points=\"").nth(1).unwrap();
        line.contains(colour) && points.split(' ').filter(|p| p.contains(',')).count() > 2
    });
    long.count()
}

fn circles(svg: &str, colour: &str) -> usize {
    let all = svg.split("<circle ").skip(1);
    all.filter(|circle| circle.split_once("/>").unwrap().0.contains(colour))
        .count()
}

/// The first two of Okabe and Ito's colours, in the order of the command line.
const BLUE: &str = "#0072B2";
const VERMILION: &str = "#D55E00";

#[test]
fn two_runs_lie_in_one_picture() {
    let program = Program::new();
    program.says("train -q -n 1 --epochs 3 --run-dir one");
    program
        .says("train -q -n 3 --epochs 2 --run-dir a-run-with-a-name-that-is-much-too-long-for-it");
    let runs = "one a-run-with-a-name-that-is-much-too-long-for-it";
    let said = program.says(&format!("plot {runs} --out pictures"));
    let names = ["perplexity-time", "perplexity-epochs", "workers", "speedup"];
    let files = names.map(|name| {
        [
            format!("pictures/{name}.png"),
            format!("pictures/{name}.svg"),
        ]
    });
    let files: Vec<_> = files.into_iter().flatten().collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), files);
    for file in files.iter().filter(|file| file.ends_with("png")) {
        let bytes = fs::read(program.path(file)).unwrap();
        assert_eq!(bytes[..8], *b"\x89PNG\r\n\x1a\n", "{file}");
        let side = |at| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(side(16), 1200, "{file}");
        assert!((400..=800).contains(&side(20)), "{file}");
    }
    let epochs = text(&program.path("pictures/perplexity-epochs.svg"));
    let said = words(&epochs);
    let expected = [
        "Log-perplexity against epochs",
        "line: training · markers: validation after each epoch",
        "one",
        // The middle is left out, and 34 letters stay.
        "a-run-with-a-n…uch-too-long-for-it",
        "log-perplexity (nats per item)",
        "epochs",
        "perplexity",
    ];
    for word in expected {
        assert!(said.iter().any(|said| said == word), "{word}: {said:?}");
    }
    assert_eq!((curves(&epochs, BLUE), curves(&epochs, VERMILION)), (1, 1));
    // One in the legend, the others an epoch's validation each.
    assert_eq!(
        (circles(&epochs, BLUE), circles(&epochs, VERMILION)),
        (4, 3)
    );
    let time = words(&text(&program.path("pictures/perplexity-time.svg")));
    assert!(
        time.contains(&"time of training (seconds)".to_owned()),
        "{time:?}"
    );
    let workers = words(&text(&program.path("pictures/workers.svg")));
    for word in [
        "tokens/s",
        "mean staleness (versions)",
        "local/0",
        "local/2",
    ] {
        assert!(workers.iter().any(|said| said == word), "{workers:?}");
    }
    let speedup = words(&text(&program.path("pictures/speedup.svg")));
    assert_eq!(speedup[0], "Speed-up by number of workers");
    assert!(
        speedup[1].contains("with 1 worker · dashed: ideal"),
        "{speedup:?}"
    );
}

#[test]
fn what_cannot_be_drawn_is_reported() {
    let program = Program::new();
    program.says("train -q -n 1 --epochs 1 --run-dir one");
    let events = text(&program.path("one/events.jsonl"));
    let cut = |name: &str, until: &str| {
        let lines = events.lines().collect::<Vec<_>>();
        let last = lines.iter().position(|line| line.contains(until)).unwrap();
        fs::create_dir(program.path(name)).unwrap();
        let kept = lines[..=last].join("\n") + "\n";
        fs::write(program.path(name).join("events.jsonl"), kept).unwrap();
    };
    cut("one-point", "\"event\":\"step\"");
    cut("empty", "\"event\":\"epoch_started\"");
    // Beside the run, where nothing else is said.
    let said = program.says("plot one-point --format svg");
    assert!(
        said.starts_with("one-point/plots/perplexity-time.svg\n"),
        "{said}"
    );
    let svg = text(&program.path("one-point/plots/perplexity-time.svg"));
    assert_eq!(circles(&svg, BLUE), 2, "the legend's and the point");
    let missing = [
        ("plot empty", "empty has nothing to draw"),
        ("plot nowhere", "cannot read nowhere"),
        ("plot .", "is not a run: it has no events.jsonl"),
        ("plot one/config.toml", "is no log of lua-lua"),
        (
            "plot one --out x.svg --picture speedup",
            "needs runs with different numbers of workers",
        ),
        (
            "plot one --out x.svg --picture time,epochs",
            "names several",
        ),
    ];
    for (command, why) in missing {
        let said = program.fails(command, "");
        assert!(said.contains(why), "{command}: {said}");
    }
    let said = program.says("plot one --out x.png --picture epochs");
    assert_eq!(said, "x.png\n");
    // What the shell makes of `*` holds other things, too.
    let output = program.start("plot nowhere one empty/events.jsonl --out x.png", "");
    let (out, err) = program::words(&output);
    assert_eq!(out, "x.png\n");
    assert!(err.contains("Left out: cannot read nowhere"), "{err}");
    let said = program.fails("plot nowhere neither", "");
    assert!(said.contains("there is nothing to draw"), "{said}");
}

/// The ancestor's line as it was published, and others around it.
const LUA_LUA: &str = "\
Using ada_grad
client 3 is there
Epoch: 1, Batch: 50/100, Batch size: 10, LR: 0.0100, PPL: 1000.00, |Param|: 682.62, |GParam|: 9.81, Training: 1700/650/1050 total/source/target tokens/sec Time ellapse: 100
[c2] Epoch: 1,Batch: 100/100,Batch size: 10,LR: 0.0100,PPL:  500.00 , Training: 1800/700/1100 total/source/target tokens/secTime ellapse: 200Epoch: 1, Batch: 50/100, Batch size: 10, LR: 0.0100, PPL: 1000.00, |Param|: 682.62, |GParam|: 9.81, Training: 1700/650/1050 total/source/target tokens/sec Time ellapse: 100
Train\t500.0
Valid\t450.5
Epoch: 2, Batch: 50/100, Batch size: 10, LR: 0.0100, PPL: nan, Training: 1/1/0 total/source/target tokens/sec Time ellapse: 290
Epoch: 2, Batch: 100/1
Epoch: 2, Batch: 100/100, Batch size: 10, LR: 0.0000, PPL: 161.82, |Param|: 682.62, |GParam|: 9.81, Training: 1787/691/1096 total/source/target tokens/sec Time ellapse: 300
";

#[test]
fn the_ancestors_logs_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("8-machines.log");
    fs::write(&file, LUA_LUA).unwrap();
    let source = Source::read(&file).unwrap();
    let point = |secs, epochs, perplexity: f64| Point {
        secs: Some(secs),
        epochs,
        value: perplexity.ln(),
        range: None,
    };
    assert_eq!(source.label, "8-machines");
    let train = [
        point(100.0, 0.5, 1000.0),
        point(200.0, 1.0, 500.0),
        point(300.0, 2.0, 161.82),
    ];
    assert_eq!(source.curves[0].train, train);
    assert_eq!(source.curves[0].validation, [point(200.0, 1.0, 450.5)]);
    assert_eq!(source.rate, Some(1787.0));
    // One of its versions lets the clock begin anew with each epoch.
    let anew = LUA_LUA.replace("ellapse: 300", "ellapse: 80");
    fs::write(&file, anew).unwrap();
    let source = Source::read(&file).unwrap();
    assert_eq!(source.curves[0].train[2], point(280.0, 2.0, 161.82));
}

#[test]
fn old_results_lie_beside_new_ones() {
    let program = Program::new();
    program.says("train -q -n 2 --epochs 2 --run-dir new");
    fs::write(program.path("old.log"), LUA_LUA).unwrap();
    program.says("plot old.log new --format svg --out both");
    let svg = text(&program.path("both/perplexity-time.svg"));
    let said = words(&svg);
    assert!(said.contains(&"old".to_owned()) && said.contains(&"new".to_owned()));
    assert_eq!((curves(&svg, BLUE), curves(&svg, VERMILION)), (1, 1));
}
