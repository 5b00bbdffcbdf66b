//! The program `dsgd`: the library with the built-in tasks.

fn main() {
    dsgd::Tasks::new()
        .with::<seq2seq::Seq2Seq>("seq2seq")
        .alias("demo_server")
        .with::<dsgd_python::Python>("python")
        .main();
}
