//! `dsgd watch`: a run on a screen of its own, be it running, finished, or on another machine.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use ratatui::crossterm::event::{self, Event as Input, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;

use dsgd_core::event::Observer;
use dsgd_core::text::causes;
use dsgd_engine::run::{CONFIG, EVENTS};
use dsgd_observe::board::Board;
use dsgd_observe::follow::Follow;
use dsgd_observe::output;
use dsgd_observe::output::say;
use dsgd_observe::{Verbosity, duration, screen, terminal};

/// The screen is drawn anew this often.
const REFRESH: Duration = Duration::from_millis(250);

/// A page is asked this often.
const ASK: Duration = Duration::from_secs(1);

/// A page that does not answer in this time is away for now.
const ANSWER: Duration = Duration::from_secs(10);

/// A board of thousands of workers has megabytes.
const MOST_ANSWER: u64 = 64 << 20;

/// Where lines are printed, figures come every so many steps, once a second at most.
const PRINT_EVERY: usize = 1;

/// Options of `dsgd watch`.
#[derive(Debug, Args)]
struct WatchArgs {
    /// Folder of a run, or the address that `train --dashboard` printed
    #[arg(value_name = "RUN|URL")]
    run: String,
    /// Lines only
    #[arg(long)]
    plain: bool,
}

pub(super) fn command() -> Command {
    WatchArgs::augment_args(Command::new("watch"))
        .about("Watch a run that is under way, or look at one that is over")
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let args = WatchArgs::from_arg_matches(matches)?;
    let plain = args.plain || !std::io::stdout().is_terminal();
    let mut source = if args.run.starts_with("http://") {
        Source::Page(Box::new(Page::new(&args.run)?))
    } else {
        Source::Folder(Box::new(Folder::open(Path::new(&args.run), plain)?))
    };
    // What is wrong with it is said before the screen is taken.
    source.look()?;
    if plain {
        lines(&mut source)
    } else {
        let mut screen = ratatui::try_init().context("this terminal has no screen")?;
        let watched = watch(&mut source, &mut screen);
        ratatui::restore();
        watched
    }
}

/// Where a board comes from.
enum Source {
    Folder(Box<Folder>),
    Page(Box<Page>),
}

impl Source {
    /// Takes in what is new.
    fn look(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Folder(folder) => folder.look(),
            Self::Page(page) => {
                page.look();
                Ok(())
            }
        }
    }

    fn board(&self) -> &Board {
        match self {
            Self::Folder(folder) => &folder.board,
            Self::Page(page) => &page.board,
        }
    }

    /// How fresh that is, in words.
    fn freshness(&self) -> String {
        match self {
            Self::Folder(folder) => folder.freshness(),
            Self::Page(page) => page.freshness(),
        }
    }
}

/// A run's folder.
struct Folder {
    follow: Follow,
    board: Board,
    /// Prints lines, where lines are wanted.
    printer: Option<Observer>,
}

impl Folder {
    fn open(run: &Path, plain: bool) -> anyhow::Result<Self> {
        let events: PathBuf = run.join(EVENTS);
        if !events.is_file() && !run.join(CONFIG).is_file() {
            bail!(
                "{} is no run: it has neither {EVENTS} nor {CONFIG}; runs are in the folder runs/, unless --run-dir said otherwise",
                run.display()
            );
        }
        Ok(Self {
            follow: Follow::new(&events),
            board: Board::default(),
            printer: plain.then(|| terminal(Verbosity::Normal, true, PRINT_EVERY)),
        })
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let (board, printer) = (&mut self.board, &mut self.printer);
        while self.follow.next(|record| {
            board.see(&record);
            if let Some(printer) = printer {
                printer(&record);
            }
        })? {}
        Ok(())
    }

    fn freshness(&self) -> String {
        let written = self.follow.size().and_then(|(_, at)| at.elapsed().ok());
        match written {
            Some(ago) => format!("last event {} ago", duration(ago.as_secs_f64())),
            None => "no event yet".to_owned(),
        }
    }
}

/// A page that a run's server shows.
struct Page {
    agent: ureq::Agent,
    address: String,
    board: Board,
    asked: Option<Instant>,
    /// Why it did not answer the last time.
    trouble: Option<String>,
}

impl Page {
    fn new(url: &str) -> anyhow::Result<Self> {
        let uri: ureq::http::Uri = url.parse().with_context(|| url.to_owned())?;
        let authority = uri
            .authority()
            .context("there is no host in that address")?;
        let query = uri
            .query()
            .map_or(String::new(), |query| format!("?{query}"));
        let config = ureq::Agent::config_builder().timeout_global(Some(ANSWER));
        let mut page = Self {
            agent: config.build().into(),
            address: format!("http://{authority}/api/board{query}"),
            board: Board::default(),
            asked: None,
            trouble: None,
        };
        page.board = page.ask()?;
        Ok(page)
    }

    fn ask(&mut self) -> anyhow::Result<Board> {
        self.asked = Some(Instant::now());
        let asked = self.agent.get(&self.address).call();
        let mut answer = match asked {
            Err(ureq::Error::StatusCode(401)) => {
                bail!("the page wants its token: pass the whole address that was printed")
            }
            asked => asked.with_context(|| format!("{} cannot be read", self.address))?,
        };
        let text = answer.body_mut().with_config().limit(MOST_ANSWER);
        let text = text.read_to_string().context("the answer broke off")?;
        serde_json::from_str(&text).context("this is no page of dsgd, or one of another version")
    }

    /// One that does not answer now may do so again.
    fn look(&mut self) {
        if self.asked.is_some_and(|at| at.elapsed() < ASK) {
            return;
        }
        match self.ask() {
            Ok(board) => {
                self.board = board;
                self.trouble = None;
            }
            Err(error) => self.trouble = Some(causes(&*error)),
        }
    }

    fn freshness(&self) -> String {
        let gone = |why: &String| format!("the page does not answer ({why}); asking again");
        self.trouble.as_ref().map_or(String::new(), gone)
    }
}

/// Until the run is over.
fn lines(source: &mut Source) -> anyhow::Result<()> {
    let mut said = 0;
    loop {
        source.look()?;
        output::written()?;
        let board = source.board();
        if let Source::Page(page) = &source
            && (board.steps > said || board.outcome.is_some())
        {
            said = board.steps;
            for line in screen::lines(&page.board, 160, 2) {
                say(line);
            }
        }
        if source.board().outcome.is_some() {
            return Ok(());
        }
        if let Source::Page(page) = source
            && let Some(why) = &page.trouble
        {
            bail!("{why}");
        }
        std::thread::sleep(REFRESH);
    }
}

/// Until somebody has seen enough.
fn watch(source: &mut Source, terminal: &mut ratatui::DefaultTerminal) -> anyhow::Result<()> {
    const KEYS: &str = "q quits · ↑ ↓ move through the workers";
    const DIM: Style = Style::new().add_modifier(Modifier::DIM);
    let mut first = 0usize;
    loop {
        source.look()?;
        terminal.draw(|frame| {
            let parts = Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]);
            let [picture, foot] = parts.areas(frame.area());
            screen::draw(source.board(), first, picture, frame.buffer_mut());
            let words = format!("{KEYS}   {}", source.freshness());
            frame.render_widget(Line::styled(words, DIM), foot);
        })?;
        let until = Instant::now() + REFRESH;
        while event::poll(until.saturating_duration_since(Instant::now()))? {
            let Input::Key(key) = event::read()? else {
                break;
            };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            let control = key.modifiers.contains(KeyModifiers::CONTROL);
            let last = source.board().workers.len().saturating_sub(1);
            first = match key.code {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                KeyCode::Char('c') if control => return Ok(()),
                KeyCode::Down | KeyCode::Char('j') => first + 1,
                KeyCode::Up | KeyCode::Char('k') => first.saturating_sub(1),
                KeyCode::PageDown => first + 10,
                KeyCode::PageUp => first.saturating_sub(10),
                KeyCode::Home => 0,
                KeyCode::End => last,
                _ => continue,
            }
            .min(last);
            break;
        }
    }
}
