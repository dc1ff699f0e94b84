//! `wasmsr top`: a running VM, watched.

mod model;
mod view;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;

use crate::args;
use crate::console;
use crate::exit::{Code, Failure};
use crate::live::client::{self, AskError, Vm};
use crate::live::snapshot::Snapshot;
use crate::tables;
use model::{After, Column, Key, Model};
use view::Palette;

/// How soon a signal or an answer is seen.
const TICK: Duration = Duration::from_millis(100);

/// Watches a VM until it ends, or the user has seen enough.
pub(crate) fn top(args: &args::Top) -> Result<Code, Failure> {
    let has_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    if !args.batch && !has_terminal {
        return Err(Failure::input(anyhow::anyhow!(
            "`top` needs a terminal; `--batch` prints lines, and `wasmsr stats` looks once"
        )));
    }
    let (vm, first) = client::find(args.vm.as_deref())?;
    let signal = listen().context("cannot listen to signals").map_err(Failure::host)?;
    let watched = Watched { answers: look_at(vm, args.delay), signal, looks_left: args.looks };
    let model = Model::new(first);
    let end = match args.batch {
        true => watched.in_lines(model),
        false => watched.on_screen(model),
    };
    match end.map_err(Failure::host)? {
        End::Quit => Ok(Code::SUCCESS),
        End::Gone => {
            console::say("wasmsr: the VM has ended");
            Ok(Code::SUCCESS)
        }
        End::Signal(number) => Ok(Code::signal(number)),
    }
}

/// Why the watching ends.
enum End {
    Quit,
    Gone,
    Signal(usize),
}

struct Watched {
    answers: Receiver<Result<Snapshot, AskError>>,
    /// The number of a signal that has come, or 0.
    signal: Arc<AtomicUsize>,
    looks_left: Option<u64>,
}

fn listen() -> io::Result<Arc<AtomicUsize>> {
    let signal = Arc::new(AtomicUsize::new(0));
    for number in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
        let value = usize::try_from(number).unwrap_or_default();
        flag::register_usize(number, signal.clone(), value)?;
    }
    Ok(signal)
}

/// Asks a VM over and over, on a thread of its own: one that does not answer must
/// not keep keys waiting.
fn look_at(vm: Vm, delay: Duration) -> Receiver<Result<Snapshot, AskError>> {
    let (sender, answers) = mpsc::sync_channel(1);
    thread::spawn(move || {
        loop {
            let next = Instant::now() + delay;
            thread::sleep(next.saturating_duration_since(Instant::now()));
            let answer = vm.ask();
            let is_last = matches!(answer, Err(AskError::Gone));
            if sender.send(answer).is_err() || is_last {
                return;
            }
        }
    });
    answers
}

impl Watched {
    /// Takes what has come of the VM; `true` if the screen is another now.
    fn take(&mut self, model: &mut Model) -> Result<bool, End> {
        match self.signal.load(Relaxed) {
            0 => {}
            number => return Err(End::Signal(number)),
        }
        match self.answers.try_recv() {
            Ok(Ok(snapshot)) => model.look(snapshot),
            Ok(Err(AskError::Gone)) | Err(TryRecvError::Disconnected) => return Err(End::Gone),
            Ok(Err(error)) => model.trouble = Some(error.to_string()),
            Err(TryRecvError::Empty) => return Ok(false),
        }
        Ok(true)
    }

    /// Whether that was the last look.
    fn has_seen_enough(&mut self) -> bool {
        if let Some(left) = &mut self.looks_left {
            *left = left.saturating_sub(1);
        }
        self.looks_left == Some(0)
    }

    fn on_screen(mut self, mut model: Model) -> anyhow::Result<End> {
        let palette = match console::stdout_is_coloured() {
            true => Palette::Colours,
            false => Palette::Plain,
        };
        // Puts the terminal back when a panic unwinds, too.
        let mut terminal = ratatui::try_init().context("cannot set up the terminal")?;
        let restored = Restored;
        let end = loop {
            terminal.draw(|frame| view::draw(frame, &model, palette))?;
            if let Some(end) = self.wait(&mut model)? {
                break end;
            }
        };
        drop(restored);
        Ok(end)
    }

    /// Waits until there is something else to draw, or nothing more.
    fn wait(&mut self, model: &mut Model) -> anyhow::Result<Option<End>> {
        loop {
            match self.take(model) {
                Ok(true) if self.has_seen_enough() => return Ok(Some(End::Quit)),
                Ok(true) => return Ok(None),
                Ok(false) => {}
                Err(end) => return Ok(Some(end)),
            }
            let is_due = match event::poll(TICK) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
                polled => polled.context("cannot read keys")?,
            };
            if !is_due {
                continue;
            }
            match event::read().context("cannot read keys")? {
                Event::Key(key) => match known(key).map(|key| model.press(key)) {
                    Some(After::Quit) => return Ok(Some(End::Quit)),
                    Some(After::On) => return Ok(None),
                    None => {}
                },
                Event::Resize(..) => return Ok(None),
                _ => {}
            }
        }
    }

    fn in_lines(mut self, mut model: Model) -> anyhow::Result<End> {
        if self.print_lines(&model)? {
            return Ok(End::Quit);
        }
        loop {
            match self.take(&mut model) {
                Ok(true) => {
                    if let Some(trouble) = model.trouble.take() {
                        console::say(&format!("wasmsr: {trouble}"));
                    } else if self.print_lines(&model)? {
                        return Ok(End::Quit);
                    }
                }
                Ok(false) => thread::sleep(TICK),
                Err(end) => return Ok(end),
            }
        }
    }

    /// Prints a look; `true` if nobody wants another.
    fn print_lines(&mut self, model: &Model) -> io::Result<bool> {
        let now = &model.now;
        let mut table = tables::table(Column::ALL.map(Column::title), &[3, 4, 5, 6, 7, 8, 9, 10]);
        for line in model.lines() {
            table.add_row(Column::ALL.map(|column| view::text(&line, column)));
        }
        let head = format!("{} process {} up {}", now.profile, now.pid, tables::span(now.uptime));
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{head}\n{}\n", table.trim_fmt()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
            written => written.map(|()| self.has_seen_enough()),
        }
    }
}

/// Leaves the screen as it was when it is dropped.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        // Shows the cursor, which drawing hides.
        let _ = ratatui::crossterm::execute!(io::stdout(), ratatui::crossterm::cursor::Show);
        // Nobody is left to be told if the terminal has gone.
        let _ = ratatui::try_restore();
    }
}

fn known(key: KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(key.code, KeyCode::Char('c')).then_some(Key::Interrupt);
    }
    Some(match key.code {
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        _ => return None,
    })
}
