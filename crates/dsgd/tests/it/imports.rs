//! Inside a crate no two files import each other, directly or by way of others.
//!
//! Files are parsed as Rust. A name that a module only passes on (`pub use`) counts for the file that
//! defines it, and passing it on is no use of it; unit tests are left out. What macros make is not seen.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::Visit;
use syn::{File, Item, ItemMod, Path, UseTree};

/// A module's path below its crate's root.
type Module = Vec<String>;

/// A crate's files, by module.
pub(crate) struct Imports {
    modules: BTreeMap<Module, Source>,
}

/// What a file names.
struct Source {
    file: String,
    /// What `use` brings into the file, by the name that it has there.
    uses: BTreeMap<String, Vec<String>>,
    /// Which of these it only passes on, unless it names them itself.
    passed_on: BTreeSet<String>,
    /// First names of all paths.
    named: BTreeSet<String>,
    /// All paths that may lead into the crate.
    paths: Vec<Vec<String>>,
}

impl Imports {
    /// Of files by their paths below `src/`, with their texts.
    pub(crate) fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let modules = files.into_iter().map(|(name, text)| {
            let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (module_of(name), Source::of(name, &parsed))
        });
        Self {
            modules: modules.collect(),
        }
    }

    /// Groups of files that lead to each other.
    pub(crate) fn circles(&self) -> Vec<Vec<String>> {
        let modules: Vec<_> = self.modules.keys().collect();
        let edges: BTreeMap<_, _> = modules.iter().map(|m| (*m, self.used_by(m))).collect();
        let reach = |from: &Module| {
            let mut found = BTreeSet::new();
            let mut next: Vec<_> = edges[from].iter().collect();
            while let Some(module) = next.pop() {
                if found.insert(module.clone()) {
                    next.extend(&edges[module]);
                }
            }
            found
        };
        let reached: BTreeMap<_, _> = modules.iter().map(|m| (*m, reach(m))).collect();
        let mut circles = BTreeSet::new();
        for module in &modules {
            let both = |other: &&Module| {
                reached[module].contains(*other) && reached[*other].contains(*module)
            };
            let circle: Vec<_> = reached[module].iter().filter(both).collect();
            if circle.len() > 1 {
                circles.insert(
                    circle
                        .iter()
                        .map(|m| self.modules[*m].file.clone())
                        .collect::<Vec<_>>(),
                );
            }
        }
        circles.into_iter().collect()
    }

    /// Modules whose files define what this one names.
    fn used_by(&self, module: &Module) -> BTreeSet<Module> {
        let source = &self.modules[module];
        let is_used =
            |name: &String| !source.passed_on.contains(name) || source.named.contains(name);
        let uses = source.uses.iter().filter(|(name, _)| is_used(name));
        let all = uses.map(|(_, path)| path).chain(&source.paths);
        let used = all.filter_map(|path| self.home_of(module, path, 0));
        used.filter(|used| used != module).collect()
    }

    /// The module that defines what a path in `module` means; none for what lies outside of the crate.
    fn home_of(&self, module: &Module, path: &[String], depth: usize) -> Option<Module> {
        assert!(depth < 20, "{path:?} in {module:?} leads nowhere");
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" => (Module::new(), &path[1..]),
            "self" => (module.clone(), &path[1..]),
            "super" => (module[..module.len().checked_sub(1)?].to_vec(), &path[1..]),
            first => {
                let child = [module.as_slice(), &[first.to_owned()]].concat();
                let used = &self.modules[module].uses;
                match used.get(first) {
                    _ if self.modules.contains_key(&child) => (child, &path[1..]),
                    // A name that is used under itself is another crate's.
                    Some(used) if used.first().is_some_and(|name| name != first) => {
                        let whole = [used.as_slice(), &path[1..]].concat();
                        return self.home_of(module, &whole, depth + 1);
                    }
                    _ => return None,
                }
            }
        };
        while let [segment, more @ ..] = rest {
            if segment == "super" {
                at.pop();
                rest = more;
                continue;
            }
            let child = [at.as_slice(), std::slice::from_ref(segment)].concat();
            if self.modules.contains_key(&child) {
                (at, rest) = (child, more);
                continue;
            }
            if let Some(passed_on) = self.modules[&at].uses.get(segment) {
                let whole = [passed_on.as_slice(), more].concat();
                return self.home_of(&at, &whole, depth + 1);
            }
            break;
        }
        Some(at)
    }
}

fn module_of(file: &str) -> Module {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "lib" | "main" => Module::new(),
        _ => path.split('/').map(str::to_owned).collect(),
    }
}

impl Source {
    fn of(file: &str, parsed: &File) -> Self {
        let mut source = Self {
            file: file.to_owned(),
            uses: BTreeMap::new(),
            passed_on: BTreeSet::new(),
            named: BTreeSet::new(),
            paths: Vec::new(),
        };
        for item in &parsed.items {
            source.visit_item(item);
        }
        source
    }

    fn take(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &dyn ToString| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.take(&with(&path.ident), &path.tree),
            UseTree::Name(name) if name.ident == "self" => {
                if let Some(last) = before.last() {
                    self.uses.insert(last.clone(), before.to_vec());
                }
            }
            UseTree::Name(name) => {
                self.uses.insert(name.ident.to_string(), with(&name.ident));
            }
            UseTree::Rename(renamed) => {
                self.uses
                    .insert(renamed.rename.to_string(), with(&renamed.ident));
            }
            UseTree::Glob(_) => self.paths.push(before.to_vec()),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.take(before, tree)),
        }
    }
}

impl Visit<'_> for Source {
    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        let before: BTreeSet<_> = self.uses.keys().cloned().collect();
        self.take(&[], &item.tree);
        if !matches!(item.vis, syn::Visibility::Inherited) {
            let now = self.uses.keys().filter(|name| !before.contains(*name));
            self.passed_on.extend(now.cloned());
        }
    }

    fn visit_item_mod(&mut self, item: &ItemMod) {
        let is_test = |attribute: &syn::Attribute| {
            attribute.path().is_ident("cfg")
                && attribute
                    .parse_args::<Path>()
                    .is_ok_and(|what| what.is_ident("test"))
        };
        if !item.attrs.iter().any(is_test) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_path(&mut self, path: &Path) {
        let segments: Vec<_> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.named.extend(segments.first().cloned());
        if segments.len() > 1 {
            self.paths.push(segments);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_item(&mut self, item: &Item) {
        syn::visit::visit_item(self, item);
    }
}

/// What the check finds, and what it does not mind.
#[test]
fn circles_are_found() {
    let circles = |files: &[(&str, &str)]| Imports::of(files.iter().copied()).circles();
    let lib = ("lib.rs", "mod a; mod b; pub use a::A;");
    assert_eq!(
        circles(&[
            lib,
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "pub struct B;")
        ]),
        [[""; 0]; 0]
    );
    let both = [["a.rs", "b.rs"]];
    for back in [
        "use crate::a::A;",
        "use super::A;",
        "fn f() { crate::a::g() }",
        "use crate::a; fn f() { a::g() }",
    ] {
        assert_eq!(
            circles(&[lib, ("a.rs", "use crate::b::B;"), ("b.rs", back)]),
            both,
            "{back}"
        );
    }
    // By way of a third, of which the folder's file passes a name on.
    let folder = [
        ("c/mod.rs", "mod d; pub use d::D; use crate::a::A;"),
        ("c/d.rs", "use super::e::E; pub struct D;"),
        ("c/e.rs", "use crate::a::A; pub struct E;"),
    ];
    let files = [
        [
            lib,
            ("a.rs", "use crate::c::D; pub struct A;"),
            ("b.rs", ""),
        ]
        .as_slice(),
        &folder,
    ]
    .concat();
    assert_eq!(circles(&files), [["a.rs", "c/d.rs", "c/e.rs"]]);
    let test = ("b.rs", "#[cfg(test)] mod tests { use crate::a::A; }");
    assert_eq!(
        circles(&[lib, ("a.rs", "use crate::b::B;"), test]),
        [[""; 0]; 0]
    );
}
