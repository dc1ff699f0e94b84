//! `wasmsr top`: shows a running VM, again and again.

mod columns;
mod hang_up;
mod line;
mod model;
mod value;
mod view;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::mem::ManuallyDrop;
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

/// The signal that says that a terminal was closed, SIGHUP; not every process of the
/// terminal gets it.
const HANG_UP: usize = 1;

/// The longest time until a signal or an answer is noticed.
const TICK: Duration = Duration::from_millis(100);

/// Shows a VM until it ends or the user quits.
pub(crate) fn top(args: &args::Top) -> Result<Code, Failure> {
    let has_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    if !args.batch && !has_terminal {
        return Err(Failure::input(anyhow::anyhow!(
            "`top` needs a terminal; `--batch` prints lines, and `wasmsr stats` prints them once"
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
        End::Closed => Ok(Code::signal(HANG_UP)),
        End::Signal(number) => Ok(Code::signal(number)),
    }
}

/// Why `top` ends.
enum End {
    Quit,
    Gone,
    /// The terminal was closed.
    Closed,
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

/// Restores the terminal without waiting: another thread may be blocked in writing to it.
fn restore_at_once() {
    // If the terminal is closed, there is nothing to restore.
    let _ = disable_raw_mode();
    let tty = File::options().write(true).custom_flags(libc::O_NONBLOCK).open("/dev/tty");
    let _ = tty.and_then(|mut tty| execute!(tty, LeaveAlternateScreen, Show));
}

/// Asks a VM again and again on another thread: a VM that does not answer must not
/// delay keys.
fn look_at(vm: Vm, delay: Duration) -> Receiver<Result<Snapshot, AskError>> {
    let (sender, answers) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut next = Instant::now();
        loop {
            // The time of the question is part of the delay.
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

/// Why something is drawn.
enum News {
    /// There are new statistics.
    Look,
    /// The VM could not be asked.
    Trouble,
    /// The user pressed a key or resized the screen.
    Wish,
}

impl Watched {
    /// Takes new statistics, if there are any.
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

    /// Whether the statistics that were shown are the last.
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
        // Restores the terminal when a panic unwinds, too.
        let mut terminal = ratatui::try_init().context("cannot set up the terminal")?;
        let restored = Restored;
        hang_up::end_if_stuck(Code::signal(HANG_UP))?;
        let mut news = News::Look;
        let end = loop {
            let drawn = terminal.draw(|frame| view::draw(frame, &model, palette)).map(|_| ());
            match drawn {
                Err(_) if hang_up::is_hung_up(Duration::ZERO)? => break End::Closed,
                drawn => drawn?,
            }
            if matches!(news, News::Look) && self.has_seen_enough() {
                break End::Quit;
            }
            match self.wait(&mut model)? {
                Ok(more) => news = more,
                Err(end) => break end,
            }
        };
        drop(restored);
        if hang_up::is_hung_up(Duration::ZERO).unwrap_or(true) {
            // ratatui says on standard error that it cannot show the cursor, and panics as
            // that is closed too.
            let _ = ManuallyDrop::new(terminal);
        }
        Ok(end)
    }

    /// Waits until there is something to draw, or `top` ends.
    fn wait(&mut self, model: &mut Model) -> anyhow::Result<Result<News, End>> {
        // Keys come first: on a terminal that draws more slowly than statistics arrive,
        // the others would always be there already, and no key would be read.
        let mut patience = Duration::ZERO;
        loop {
            // crossterm reads a closed terminal without end, and waits for it here.
            if hang_up::is_hung_up(patience).context("cannot read keys")? {
                return Ok(Err(End::Closed));
            }
            let is_due = match event::poll(Duration::ZERO) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
                polled => polled.context("cannot read keys")?,
            };
            if !is_due {
                if let Some(news) = self.take(model).transpose() {
                    return Ok(news);
                }
                patience = TICK;
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

/// Restores the screen when it is dropped.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        // Shows the cursor, which drawing hides.
        let _ = execute!(io::stdout(), Show);
        // If the terminal is closed, there is nothing to restore.
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
