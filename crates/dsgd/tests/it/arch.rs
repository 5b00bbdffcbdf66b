//! The house stands as `ARCHITECTURE.md` says: crates are layers, inside of them no two files import each
//! other, what decides touches no outside world, files are short, `unsafe` is where it is expected.
//!
//! Words are looked for line by line, comments and `mod tests` aside: that is no parser of Rust, but whoever
//! gets round it means to. Imports are parsed (`imports`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::imports::Imports;

/// The crates, each of which may use those before it; the last are programs.
const LAYERS: [&str; 8] = [
    "dsgd-core",
    "dsgd-engine",
    "dsgd-observe",
    "dsgd",
    "seq2seq",
    "dsgd-python",
    "dsgd-bin",
    "dsgd-bench",
];

/// The crate that is a function of what it is given, and all that it may depend on.
const PURE: (&str, [&str; 6]) = (
    "dsgd-core",
    [
        "bytemuck",
        "clap",
        "rand",
        "rand_chacha",
        "serde",
        "thiserror",
    ],
);

/// What the outside world is called.
const OUTSIDE: [&str; 17] = [
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "std::env",
    "std::sync::mpsc",
    "Mutex",
    "RwLock",
    "Instant",
    "SystemTime",
    "println!",
    "print!",
    "tokio",
    "rand::rng",
    "from_os_rng",
    "thread_rng",
];

/// Where `unsafe` may stand.
const UNSAFE: [&str; 2] = [
    "crates/dsgd-engine/src/wire/streaming.rs",
    "crates/seq2seq/src/kernels/",
];

const MOST_LINES: usize = 400;

/// A crate of ours, as Cargo knows it.
struct Member {
    name: String,
    /// From the repository's root.
    folder: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    optional: bool,
}

/// What is wrong with what a member depends on.
fn wrong_dependencies(member: &Member) -> Vec<String> {
    let place = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let Member { name, .. } = member;
    let Some(own) = place(name) else {
        return vec![format!("{name} has no place among the layers")];
    };
    let wrong = member.dependencies.iter().filter(|dependency| {
        let above = place(&dependency.name).is_some_and(|other| other >= own);
        let impure = name == PURE.0 && !PURE.1.contains(&dependency.name.as_str());
        let needs_clap = name == PURE.0 && dependency.name == "clap" && !dependency.optional;
        above || impure || needs_clap
    });
    wrong
        .map(|d| format!("{name} depends on {}", d.name))
        .collect()
}

/// Words of the outside world in a file of the pure crate.
fn impure<'a>(name: &'a str, text: &'a str) -> impl Iterator<Item = String> + 'a {
    let of_line = move |line: &'a str| {
        let found = OUTSIDE
            .iter()
            .filter(move |outside| line.contains(**outside));
        found.map(move |outside| format!("{name} is pure but uses {outside}: {line}"))
    };
    code(text).flat_map(of_line)
}

/// Lines without comments, up to the tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(|line| match line.find("//") {
        Some(at) if !line[..at].contains('"') => line[..at].trim(),
        _ => line.trim(),
    });
    lines.take_while(|line| *line != "mod tests {")
}

/// `unsafe` as a word of the code.
fn is_unsafe(line: &str) -> bool {
    let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.into_iter().any(|word| word == "unsafe")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn metadata() -> serde_json::Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version=1"]);
    let output = cargo.current_dir(root()).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn members() -> Vec<Member> {
    let metadata = metadata();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let members = packages.map(|package| {
        let manifest = PathBuf::from(text(&package["manifest_path"]));
        let folder = manifest.parent().unwrap();
        let folder = folder.strip_prefix(root().canonicalize().unwrap()).unwrap();
        // Those of tests alone are no part of a layer.
        let all = package["dependencies"].as_array().unwrap().iter();
        let normal = all.filter(|dependency| dependency["kind"].is_null());
        let dependencies = normal.map(|dependency| Dependency {
            name: text(&dependency["name"]),
            optional: dependency["optional"] == true,
        });
        Member {
            name: text(&package["name"]),
            folder: folder.display().to_string(),
            dependencies: dependencies.collect(),
        }
    });
    members.collect()
}

/// All Rust files below a folder, with their paths from there.
fn files(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    found
}

#[test]
fn crates_are_layers_and_the_mind_is_pure() {
    let members = members();
    let mut wrong: Vec<_> = members.iter().flat_map(wrong_dependencies).collect();
    for layer in LAYERS {
        let there = members.iter().any(|member| member.name == layer);
        assert!(there, "there is no crate {layer}");
    }
    let pure = members.iter().find(|member| member.name == PURE.0).unwrap();
    let files = files(&root().join(&pure.folder).join("src"));
    let files = files.iter().filter(|(name, _)| !name.contains("tests"));
    wrong.extend(files.flat_map(|(name, text)| impure(name, text)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_two_files_import_each_other() {
    let mut wrong = Vec::new();
    for member in members() {
        let files = files(&root().join(&member.folder).join("src"));
        let code = files.iter().filter(|(name, _)| !name.contains("tests"));
        let imports = Imports::of(code.map(|(name, text)| (name.as_str(), text.as_str())));
        let circles = imports.circles().into_iter();
        wrong.extend(circles.map(|files| format!("{}: {}", member.name, files.join(" "))));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short_and_unsafe_is_where_it_is_expected() {
    let mut wrong = Vec::new();
    for Member { folder, .. } in members() {
        for (name, text) in files(&root().join(&folder).join("src")) {
            let name = format!("{folder}/src/{name}");
            let lines = text.lines().count();
            if lines > MOST_LINES {
                wrong.push(format!("{name} has {lines} lines"));
            }
            let kernel = UNSAFE.iter().any(|allowed| name.starts_with(allowed));
            if let Some(line) = code(&text).find(|line| !kernel && is_unsafe(line)) {
                wrong.push(format!("{name} is unsafe: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where two documented targets have one name, `cargo doc` writes the pages of both to one place at once.
#[test]
fn no_two_things_are_documented_under_one_name() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let targets = packages.flat_map(|package| package["targets"].as_array().unwrap());
    let documented = targets.filter(|target| target["doc"] == true);
    let mut names: Vec<_> = documented
        .map(|target| target["name"].as_str().unwrap().replace('-', "_"))
        .collect();
    names.sort();
    assert!(names.contains(&"dsgd".to_owned()), "{names:?}");
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None);
}

/// The checks above would find what they are for.
#[test]
fn what_is_wrong_is_found() {
    let wrong = |name: &str, dependency: &str, optional| {
        let dependency = Dependency {
            name: dependency.to_owned(),
            optional,
        };
        let member = Member {
            name: name.to_owned(),
            folder: String::new(),
            dependencies: vec![dependency],
        };
        wrong_dependencies(&member).len()
    };
    assert_eq!(wrong("dsgd-engine", "dsgd-core", false), 0);
    assert_eq!(wrong("dsgd-engine", "tokio", false), 0);
    assert_eq!(wrong("dsgd-engine", "dsgd-observe", false), 1);
    assert_eq!(wrong("dsgd-core", "dsgd-engine", false), 1);
    assert_eq!(wrong("dsgd-core", "tokio", true), 1);
    assert_eq!(wrong("dsgd-core", "clap", true), 0);
    assert_eq!(wrong("dsgd-core", "clap", false), 1);
    assert_eq!(
        wrong("dsgd-new", "serde", false),
        1,
        "a new crate needs a place"
    );
    let found = |text: &str| impure("core/mod.rs", text).count();
    assert_eq!(found("    let now = std::time::Instant::now();"), 1);
    assert_eq!(found("use std::thread;"), 1);
    assert_eq!(found("// std::thread in words\n/// Instant"), 0);
    assert_eq!(found("mod tests {\nuse std::fs;"), 0);
    assert!(is_unsafe("    unsafe { f() }") && is_unsafe("unsafe fn f()"));
    assert!(!is_unsafe("#![deny(unsafe_code)]"));
}
