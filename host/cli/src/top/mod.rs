//! `wasmsr top`: a running VM, watched.

mod columns;
mod line;
mod model;
mod value;
mod view;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{LeaveAlternateScreen, disable_raw_mode};
use wasmsr_stats::{AskError, Snapshot, Vm};

use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console;
use crate::terminal::signals;
use crate::terminal::tables;
use columns::{By, Column};
use model::{After, Key, Model};
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
    let (vm, first) = wasmsr_stats::find(args.vm.as_deref())?;
    let signal = listen(if args.batch { || () } else { restore_at_once })
        .context("cannot listen to signals")
        .map_err(Failure::host)?;
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

fn listen(restore: fn()) -> io::Result<Arc<AtomicUsize>> {
    let signal = Arc::new(AtomicUsize::new(0));
    let seen = signal.clone();
    signals::watch(move |first| seen.store(usize::try_from(first).unwrap_or(0), Relaxed), restore)?;
    Ok(signal)
}

/// Puts the terminal back while another thread may be stuck in writing to it:
/// so nothing here waits for that.
fn restore_at_once() {
    // Nobody is left to be told if the terminal has gone.
    let _ = disable_raw_mode();
    let tty = File::options().write(true).custom_flags(libc::O_NONBLOCK).open("/dev/tty");
    let _ = tty.and_then(|mut tty| execute!(tty, LeaveAlternateScreen, Show));
}

/// Asks a VM over and over, on a thread of its own: one that does not answer must
/// not keep keys waiting.
fn look_at(vm: Vm, delay: Duration) -> Receiver<Result<Snapshot, AskError>> {
    let (sender, answers) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut next = Instant::now();
        loop {
            // What asking took is part of the delay.
            next = (next + delay).max(Instant::now());
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

/// What is to be shown.
enum News {
    /// Another look at the VM.
    Look,
    /// Why there was none.
    Trouble,
    /// Something that the user wants otherwise.
    Wish,
}

impl Watched {
    /// Takes what has come of the VM.
    fn take(&mut self, model: &mut Model) -> Result<Option<News>, End> {
        match self.signal.load(Relaxed) {
            0 => {}
            number => return Err(End::Signal(number)),
        }
        match self.answers.try_recv() {
            Ok(Ok(snapshot)) => {
                model.look(snapshot);
                Ok(Some(News::Look))
            }
            Ok(Err(AskError::Gone)) | Err(TryRecvError::Disconnected) => Err(End::Gone),
            Ok(Err(error)) => {
                model.trouble = Some(error.to_string());
                Ok(Some(News::Trouble))
            }
            Err(TryRecvError::Empty) => Ok(None),
        }
    }

    /// Whether the look that was shown is the last.
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
        let mut news = News::Look;
        let end = loop {
            terminal.draw(|frame| view::draw(frame, &model, palette))?;
            if matches!(news, News::Look) && self.has_seen_enough() {
                break End::Quit;
            }
            match self.wait(&mut model)? {
                Ok(more) => news = more,
                Err(end) => break end,
            }
        };
        drop(restored);
        Ok(end)
    }

    /// Waits until there is something else to draw, or nothing more.
    fn wait(&mut self, model: &mut Model) -> anyhow::Result<Result<News, End>> {
        loop {
            if let Some(news) = self.take(model).transpose() {
                return Ok(news);
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
                    Some(After::Quit) => return Ok(Err(End::Quit)),
                    Some(After::On) => return Ok(Ok(News::Wish)),
                    None => {}
                },
                Event::Resize(..) => return Ok(Ok(News::Wish)),
                _ => {}
            }
        }
    }

    fn in_lines(mut self, mut model: Model) -> anyhow::Result<End> {
        let mut news = Some(News::Look);
        loop {
            match news {
                Some(News::Look) => {
                    let is_read = console::reached(print_lines(&model))?;
                    if !is_read || self.has_seen_enough() {
                        return Ok(End::Quit);
                    }
                }
                Some(News::Trouble) => {
                    let trouble = model.trouble.take().unwrap_or_default();
                    console::say(&format!("wasmsr: {trouble}"));
                }
                Some(News::Wish) | None => thread::sleep(TICK),
            }
            news = match self.take(&mut model) {
                Ok(news) => news,
                Err(end) => return Ok(end),
            };
        }
    }
}

fn print_lines(model: &Model) -> io::Result<()> {
    let now = &model.now;
    let columns = By::Msr.columns();
    let mut table =
        tables::table(columns.iter().map(|column| column.title()), &[3, 4, 5, 6, 7, 8, 9, 10]);
    for line in model.lines() {
        table.add_row(columns.iter().map(|column: &Column| column.value(&line).whole()));
    }
    let mut text = format!(
        "{} process {} up {}\n{}\n",
        now.profile,
        now.pid,
        tables::span(now.uptime),
        table.trim_fmt()
    );
    if !now.shadows.is_empty() {
        text += &format!("\n{}\n", tables::shadows(&now.shadows));
    }
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush())
}

/// Leaves the screen as it was when it is dropped.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        // Shows the cursor, which drawing hides.
        let _ = execute!(io::stdout(), Show);
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
