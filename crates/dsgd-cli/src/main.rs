//! The program `dsgd`: the library with the built-in tasks.

fn main() {}
