fn run<T: Task>(job: Job<T>, verbosity: Verbosity) -> anyhow::Result<()> {
    let Job {
        name,
        config,
        task,
        layout,
        folder,
        versions,
        progress,
        best,
        resumed,
    } = job;
    let rules = Rules::new(&config, task.batches(), task.validation_batches());
    if progress.epoch > rules.epochs.1 {
        bail!(
            "{} is finished: all {} epochs are done; pass --epochs with more of them to go on",
            folder.path().display(),
            config.epochs
        );
    }
    let started = Event::RunStarted {
        task: name.to_owned(),
        parameters: layout.len(),
        workers: config.workers,
        mode: config.mode,
        about: task.describe(),
        resumed_at: resumed.then_some(progress.version),
    };
    let schedule = Schedule::new(schedule_options(&config, &rules), progress.schedule);
    let core = Core::new(rules, schedule, progress);
    let mut keeper = Keeper {
        folder: folder.path(),
        prefix: config.save_file.as_deref().unwrap_or(name),
        keep: config.keep,
        metadata: task.metadata(),
        best,
    };
    let saver = Box::new(move |request: &SaveRequest<'_>| {
        keeper.save(request).map_err(|error| error.to_string())
    });
    let mut server = Server::new(
        core,
        versions,
        config.workers,
        config.max_grad_norm,
        config.print_every,
        saver,
    );
    server.observe(observe::terminal(verbosity, config.print_every));
    server.observe(observe::json_lines(&folder.file(EVENTS)).context(EVENTS)?);
    server.observe(observe::text_log(&folder.file(LOG), config.print_every).context(LOG)?);
    server.tell(started);
    let (letters, inbox) = channel();
    on_interrupt(letters.clone());
    let threads = threads_of_a_worker(&config);
    local::start(
        &task,
        config.workers,
        threads,
        &server.buffers().clone(),
        &letters,
    )
    .context("no thread to be had")?;
    let report = server.run(&inbox);
    close(&*task, &folder, report, verbosity)
}

/// What is said and returned at the end.
fn close<T: Task>(
    task: &T,
    folder: &RunFolder,
    report: crate::server::Report,
    verbosity: Verbosity,
) -> anyhow::Result<()> {
    let program = program();
    let next = next(&program, folder);
    if let Some(why) = report.unsaved {
        bail!("the last checkpoint could not be written: {why}");
    }
    match report.outcome {
        Outcome::Done => {
            if verbosity > Verbosity::Quiet
                && let Some(file) = run::best(folder.path())
            {
                for line in task.next_steps(&program, &shell_word(&file)) {
                    say(line);
                }
            }
            Ok(())
        }
        Outcome::Interrupted => Err(Error::Interrupted { next }.into()),
        Outcome::Failed(reason) => Err(Error::Run { reason, next }.into()),
    }
}

/// What to do with a run that is not done.
fn next(program: &str, folder: &RunFolder) -> String {
    match run::best(folder.path()) {
        Some(_) => format!(
            "Go on with: {program} train --resume {}",
            shell_word(folder.path())
        ),
        None => format!(
            "No step was made, so there is no checkpoint. Start again with: {program} train \
             --config {}",
            shell_word(&folder.file(CONFIG))
        ),
    }
}

fn schedule_options(config: &RunConfig, rules: &Rules) -> ScheduleOptions {
    let steps_per_epoch = rules.batches.div_ceil(rules.group()) as u64;
    ScheduleOptions {
        kind: config.lr_schedule,
        learning_rate: config.learning_rate,
        warmup_steps: config.warmup_steps,
        lr_decay: config.lr_decay,
        start_decay_at: config.start_decay_at,
        total_steps: steps_per_epoch * u64::from(rules.epochs.1 + 1 - rules.epochs.0),
    }
}

fn threads_of_a_worker(config: &RunConfig) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    config
        .threads
        .unwrap_or_else(|| (cores / config.workers).max(1))
}

/// The first Ctrl-C lets the run save and stop, the second one ends the process at once.
fn on_interrupt(letters: Sender<Letter>) {
    let mut asked = false;
    // A second handler in one process, as in tests that run several, is no harm.
    let _ = ctrlc::set_handler(move || {
        if asked || letters.send(Letter::Interrupt).is_err() {
            std::process::exit(super::INTERRUPTED);
        }
        asked = true;
        complain("Saving a checkpoint; once more to stop at once");
    });
}

/// How this program was called, for commands to copy.
fn program() -> String {
    let name = std::env::args_os().next().unwrap_or_default();
    shell_word(Path::new(&name))
}

/// A path as one word of a shell's command line.
fn shell_word(path: &Path) -> String {
    let path = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if path.chars().all(plain) && !path.is_empty() {
        return path.into_owned();
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}
