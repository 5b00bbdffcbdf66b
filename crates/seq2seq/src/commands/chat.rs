//! `dsgd chat`: talk with a trained model.
//!
//! A model of one sentence (`red`) is told each line alone. The hierarchical one (`hred`) is
//! told the lines before it, too: as many utterances as it was trained to read. They are those that
//! the person typed, so that no answer takes the place of one; with `--replies` the answers stand
//! between them, for models that were trained on dialogues of two in which each utterance answers
//! the one before.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Write};
use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::ModelArgs;
use crate::data::lines::Lines;
use crate::translator::Translator;

/// Talk with a trained model, a line at a time
///
/// A model of --model-type red answers each line by itself. One of hred answers your last lines, as many as
/// --utter-context says: in its training data they were one source, with the word of --end-utterance between two of them.
#[derive(Clone, Debug, Args)]
pub struct ChatArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,

    /// hred: what it answered stands between your lines, and counts as an utterance
    #[arg(long)]
    pub replies: bool,
}

/// Stands before what a person types.
const PROMPT: &str = "> ";

/// Ends the talk.
const QUIT: &str = "/quit";

/// Talks, with the streams of this process: with an editor for lines where a person types them.
pub fn run(args: &ChatArgs) -> anyhow::Result<()> {
    let mut translator = args.model.open(1)?;
    let (out, notes) = (&mut io::stdout(), &mut io::stderr());
    if !io::stdin().is_terminal() {
        let input = BufReader::new(io::stdin().lock());
        return chat(args, &mut translator, input, out, notes);
    }
    let mut editor = DefaultEditor::new().context("cannot use this terminal")?;
    let mut talk = Talk::new(args, &mut translator);
    writeln!(notes, "{QUIT} or Ctrl-D ends.")?;
    loop {
        let line = match editor.readline(PROMPT) {
            Ok(line) => line,
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(()),
            Err(error) => return Err(error).context("cannot read from this terminal"),
        };
        // Only what the arrow keys bring back; without it the talk goes on.
        let _ = editor.add_history_entry(&line);
        if !talk.answer_line(&line, out, notes)? {
            return Ok(());
        }
    }
}

/// Talks with whoever writes lines to `input`.
pub fn chat(
    args: &ChatArgs,
    translator: &mut Translator,
    input: impl BufRead + 'static,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut lines = Lines::from_reader(input, Path::new("standard input"))?;
    let mut talk = Talk::new(args, translator);
    while let Some(line) = lines.next_line()? {
        if !talk.answer_line(line, out, notes)? {
            break;
        }
    }
    Ok(())
}

/// A talk and what was said in it.
struct Talk<'a> {
    args: &'a ChatArgs,
    translator: &'a mut Translator,
    /// Utterances before the next one; at most as many as the model reads besides it.
    before: VecDeque<String>,
}

impl<'a> Talk<'a> {
    fn new(args: &'a ChatArgs, translator: &'a mut Translator) -> Self {
        Self {
            args,
            translator,
            before: VecDeque::new(),
        }
    }

    /// Answers a line; false when it ends the conversation.
    fn answer_line(
        &mut self,
        line: &str,
        out: &mut dyn Write,
        notes: &mut dyn Write,
    ) -> anyhow::Result<bool> {
        let line = line.trim();
        if line == QUIT {
            return Ok(false);
        }
        let separator = self.translator.separator();
        // The word between utterances cannot be said.
        let words = line.split_whitespace().filter(|word| *word != separator);
        let line = words.collect::<Vec<_>>().join(" ");
        if line.is_empty() {
            return Ok(true);
        }
        let (k, max_length) = (self.args.model.beam_k, self.args.model.max_length);
        let before = self.before.make_contiguous();
        let answer = self.translator.answer(before, &line, k, max_length)?;
        for note in &answer.notes {
            writeln!(notes, "Note: {note}")?;
        }
        if answer.cut {
            writeln!(
                notes,
                "Note: no answer ended within {max_length} words; this is the beginning of one"
            )?;
        }
        writeln!(out, "{}", answer.text).and_then(|()| out.flush())?;
        self.keep(line);
        if self.args.replies {
            self.keep(answer.words().join(" "));
        }
        Ok(true)
    }

    fn keep(&mut self, utterance: String) {
        let most = self.translator.model().spec().utterances() - 1;
        self.before.push_back(utterance);
        while self.before.len() > most {
            self.before.pop_front();
        }
    }
}
