//! A program of one task, for tests that need a whole process.

mod task;

fn main() {
    dsgd::Tasks::new().with::<task::Words>("words").main();
}
