//! The house stands as `ARCHITECTURE.md` says: imports go one way, what decides touches no outside
//! world, files are short, `unsafe` is where it is expected.
//!
//! Source is read line by line, comments and `mod tests` aside, for `crate::` paths and a few
//! words; that is no parser of Rust, but whoever gets round it means to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Modules of the library; each may use those before it.
const ORDER: [&str; 24] = [
    "mutex",
    "data",
    "hosts",
    "text",
    "output",
    "params",
    "task",
    "optim",
    "config",
    "event",
    "core",
    "checkpoint",
    "error",
    "run",
    "worker",
    "server",
    "wire",
    "observe",
    "plot",
    "report",
    "page",
    "ssh",
    "launch",
    "cli",
];

/// Modules that are functions of what they are given.
const PURE: [&str; 6] = ["params", "task", "optim", "config", "event", "core"];

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

/// Pure files that use one of them all the same: a step's elements are shared among threads, with
/// the same result for any number of them.
const ALLOWED: [(&str, &str); 1] = [("optim/update.rs", "std::thread")];

/// Where `unsafe` may stand, below `crates/`.
const UNSAFE: [&str; 2] = ["dsgd/src/wire/streaming.rs", "seq2seq/src/kernels/"];

const MOST_LINES: usize = 400;

/// What is wrong with a file of the library, `name` being its path below `src/`.
fn wrong(name: &str, text: &str, roots: &[(String, String)]) -> Vec<String> {
    let module = name
        .split('/')
        .next()
        .unwrap_or(name)
        .trim_end_matches(".rs");
    let mut wrong = Vec::new();
    let Some(own) = ORDER.iter().position(|m| *m == module) else {
        return vec![format!("{name}: module {module} has no place in the order")];
    };
    for line in code(text) {
        for used in crate_paths(line) {
            // What the library exports at its root is its module's.
            let root = roots.iter().find(|(export, _)| *export == used);
            let used = root.map_or(used.as_str(), |(_, module)| module);
            match ORDER.iter().position(|m| *m == used) {
                Some(other) if other <= own => {}
                Some(_) => wrong.push(format!("{name}: {module} uses {used}: {line}")),
                None => wrong.push(format!("{name}: crate::{used} is no module: {line}")),
            }
        }
        for outside in OUTSIDE.iter().filter(|_| PURE.contains(&module)) {
            if line.contains(outside) && !ALLOWED.contains(&(name, outside)) {
                wrong.push(format!(
                    "{name}: {module} is pure but uses {outside}: {line}"
                ));
            }
        }
    }
    wrong
}

/// Lines without comments, up to the tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(|line| match line.find("//") {
        Some(at) if !line[..at].contains('"') => line[..at].trim(),
        _ => line.trim(),
    });
    lines.take_while(|line| *line != "mod tests {")
}

/// First parts of the `crate::` paths in a line, `crate::{a, b}` too.
fn crate_paths(line: &str) -> Vec<String> {
    let first = |path: &str| {
        let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
        path[..end.unwrap_or(path.len())].to_owned()
    };
    let mut paths = Vec::new();
    for rest in line.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => paths.push(first(rest)),
            Some(several) => {
                let several = several.split('}').next().unwrap_or(several);
                paths.extend(several.split(',').map(|path| first(path.trim())));
            }
        }
    }
    paths
}

/// What `lib.rs` exports at the root, and the module of each.
fn exports(lib: &str) -> Vec<(String, String)> {
    let uses = lib.lines().filter_map(|line| line.strip_prefix("pub use "));
    let names = |path: &str| {
        let (module, names) = path.split_once("::").expect("a path of two parts");
        let names = names.trim_matches(['{', '}', ';']);
        let names = names
            .split(',')
            .map(|name| (name.trim().to_owned(), module.to_owned()));
        names.collect::<Vec<_>>()
    };
    uses.flat_map(names).collect()
}

/// `unsafe` as a word of the code.
fn is_unsafe(line: &str) -> bool {
    let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.into_iter().any(|word| word == "unsafe")
}

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
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
fn imports_go_one_way_and_the_mind_is_pure() {
    let files = files(&crates().join("dsgd/src"));
    let lib = files.iter().find(|(name, _)| name == "lib.rs").unwrap();
    let roots = exports(&lib.1);
    let library = files
        .iter()
        .filter(|(name, _)| name != "lib.rs" && !name.contains("tests"));
    let wrong: Vec<_> = library
        .flat_map(|(name, text)| wrong(name, text, &roots))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for module in ORDER {
        let own = |(name, _): &&(String, String)| name.trim_end_matches(".rs").starts_with(module);
        assert!(
            files.iter().any(|file| own(&file)),
            "there is no module {module}"
        );
    }
}

#[test]
fn files_are_short_and_unsafe_is_where_it_is_expected() {
    let mut wrong = Vec::new();
    for entry in fs::read_dir(crates()).unwrap() {
        let entry = entry.unwrap();
        let member = entry.file_name().into_string().unwrap();
        for (name, text) in files(&entry.path().join("src")) {
            let name = format!("{member}/src/{name}");
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
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version=1"]);
    let output = cargo.current_dir(crates()).output().unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
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
    let roots = exports("pub use cli::Tasks;\npub use params::{Gradient, Kind};\n");
    let found = |name: &str, text: &str| wrong(name, text, &roots).len();
    assert_eq!(found("core/ledger.rs", "use crate::params::Params;"), 0);
    assert_eq!(found("core/ledger.rs", "use crate::server::Message;"), 1);
    assert_eq!(
        found(
            "core/ledger.rs",
            "    let x = crate::server::Message::Interrupt;"
        ),
        1
    );
    assert_eq!(
        found("core.rs", "use crate::{params::Params, server, cli};"),
        2
    );
    assert_eq!(found("core.rs", "use crate::Kind;"), 0);
    assert_eq!(found("core.rs", "use crate::Tasks;"), 1);
    assert_eq!(found("core.rs", "use crate::Nothing;"), 1);
    assert_eq!(
        found("sockets.rs", ""),
        1,
        "a new module must be given a place"
    );
    assert_eq!(found("optim/rules.rs", "use std::thread;"), 1);
    assert_eq!(found("optim/update.rs", "use std::thread;"), 0);
    assert_eq!(
        found("core/mod.rs", "    let now = std::time::Instant::now();"),
        1
    );
    assert_eq!(
        found("core/mod.rs", "// crate::server in words\n/// Instant"),
        0
    );
    assert_eq!(found("core/mod.rs", "mod tests {\nuse std::fs;"), 0);
    assert_eq!(found("server.rs", "use std::thread;"), 0);
    assert!(is_unsafe("    unsafe { f() }") && is_unsafe("unsafe fn f()"));
    assert!(!is_unsafe("#![deny(unsafe_code)]"));
}
