//! Which Python runs a script: here the one that is meant, elsewhere the first that has what the script imports.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use dsgd::TaskResult;

/// What asks a Python for its version and for modules that it cannot find; no module is loaded for that.
const LOOK: &str = "import importlib.util, sys\n\
    print('.'.join(map(str, sys.version_info[:3])), \
    *[m for m in sys.argv[1:] if importlib.util.find_spec(m) is None])";

/// The oldest Python that the package is for.
const OLDEST: (u32, u32) = (3, 9);

/// The one that runs scripts here: the one that was typed, that which called this program, that of the virtual
/// environment, else `python3`.
pub(crate) fn here(typed: Option<&str>) -> String {
    let of_environment = || {
        let folder = env::var_os("VIRTUAL_ENV").filter(|folder| !folder.is_empty())?;
        let python = Path::new(&folder).join("bin/python");
        Some(python.to_str()?.to_owned())
    };
    let called = || {
        env::var("DSGD_PYTHON")
            .ok()
            .filter(|python| !python.is_empty())
    };
    typed
        .map(str::to_owned)
        .or_else(called)
        .or_else(of_environment)
        .unwrap_or_else(|| "python3".to_owned())
}

/// The first of these that can import all of `needs`.
///
/// # Errors
/// What each of them lacks, and what to do.
pub(crate) fn first_with(candidates: &[&str], needs: &[String]) -> TaskResult<String> {
    let mut lacking = Vec::new();
    for &python in candidates {
        match lacks(python, needs) {
            None => return Ok(python.to_owned()),
            Some(why) if lacking.contains(&why) => {}
            Some(why) => lacking.push(why),
        }
    }
    let lacking = lacking.join("; ");
    Err(format!(
        "{lacking}: install what is missing on this host, or name another Python there by --python PATH"
    )
    .into())
}

/// Why a Python is of no use here.
fn lacks(python: &str, needs: &[String]) -> Option<String> {
    let mut command = Command::new(python);
    let asked = command
        .arg("-c")
        .arg(LOOK)
        .args(needs)
        .stdin(Stdio::null())
        .output();
    let Ok(answer) = asked else {
        return Some(format!("there is no {python}"));
    };
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let mut words = text.split_whitespace();
    let Some(version) = words.next().filter(|_| answer.status.success()) else {
        let complaint = String::from_utf8_lossy(&answer.stderr).into_owned();
        let last = complaint
            .lines()
            .last()
            .unwrap_or("it says nothing")
            .to_owned();
        return Some(format!("{python} does not run: {last}"));
    };
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let major_minor = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if major_minor < OLDEST {
        return Some(format!("{python} ({version}) is older than 3.9"));
    }
    let missing: Vec<_> = words.collect();
    (!missing.is_empty()).then(|| format!("{python} ({version}) has no {}", missing.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_python_lacks_is_named() {
        let needs = |names: &[&str]| {
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>()
        };
        let none = "/nowhere/python3";
        assert_eq!(
            first_with(&[none, "python3"], &needs(&["json"])).unwrap(),
            "python3"
        );
        let error = first_with(
            &[none, "python3"],
            &needs(&["json", "nosuch_a", "nosuch_b"]),
        );
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("there is no /nowhere/python3; python3 (3."),
            "{error}"
        );
        assert!(
            error.contains("has no nosuch_a, nosuch_b: install"),
            "{error}"
        );
        let error = first_with(&["false"], &[]).unwrap_err().to_string();
        assert!(
            error.starts_with("false does not run: it says nothing"),
            "{error}"
        );
    }

    #[test]
    fn what_is_typed_is_meant() {
        assert_eq!(here(Some("/a/python")), "/a/python");
    }
}
