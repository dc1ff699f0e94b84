//! The screen of `top`, drawn from its model.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Sparkline, Table};

use super::model::{By, Column, Line, Model, Times};
use crate::tables;

/// Whether the screen has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Palette {
    Colours,
    Plain,
}

impl Palette {
    fn accent(self) -> Style {
        match self {
            Palette::Colours => Style::new().fg(Color::Cyan),
            Palette::Plain => Style::new(),
        }
    }

    fn alarm(self) -> Style {
        match self {
            Palette::Colours => Style::new().fg(Color::Red),
            Palette::Plain => Style::new().add_modifier(Modifier::BOLD),
        }
    }
}

/// Draws everything.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &Model, palette: Palette) {
    let rows =
        [Constraint::Length(2), Constraint::Length(3), Constraint::Min(1), Constraint::Length(1)];
    let [head, spark, table, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(header(model, palette)), head);
    sparkline(frame, model, palette, spark);
    frame.render_widget(lines(model, palette), table);
    frame.render_widget(Paragraph::new(footer(model, palette)), foot);
    if model.shows_help {
        help(frame, palette);
    }
}

fn header(model: &Model, palette: Palette) -> Vec<Text<'_>> {
    let now = &model.now;
    let about = format!(
        "  process {}  up {}  vCPUs {}  boots {}",
        now.pid,
        tables::span(now.uptime),
        now.vcpus,
        now.boots
    );
    let bold = palette.accent().add_modifier(Modifier::BOLD);
    let total = now.msrs.iter().fold(0, |sum: u64, row| sum.saturating_add(row.accesses()));
    let failures = now.msrs.iter().fold(0, |sum: u64, row| sum.saturating_add(row.failures));
    let mut second = vec![Span::raw(format!("{} accesses/s, {total} in all", short(model.rate())))];
    if failures > 0 {
        second.push(Span::styled(format!("  {failures} failures"), palette.alarm()));
    }
    if let Some(trouble) = &model.trouble {
        second.push(Span::styled(format!("  {trouble}"), palette.alarm()));
    } else if now.boot_uptime.is_none() {
        second.push(Span::styled("  between two boots", palette.alarm()));
    }
    if model.is_paused {
        second.push(Span::styled("  PAUSED", palette.alarm()));
    }
    vec![Text::from(vec![Span::styled(&*now.profile, bold), Span::raw(about)]), Text::from(second)]
}

fn sparkline(frame: &mut Frame<'_>, model: &Model, palette: Palette, area: Rect) {
    // The latest is at the right edge.
    let skipped = model.history.len().saturating_sub(usize::from(area.width));
    let data: Vec<u64> = model.history.iter().skip(skipped).copied().collect();
    frame.render_widget(Sparkline::default().data(data).style(palette.accent()), area);
}

fn lines(model: &Model, palette: Palette) -> Table<'_> {
    let widths = Column::ALL.map(|column| match column {
        Column::Msr => Constraint::Length(10),
        Column::Name => Constraint::Max(28),
        Column::Plugin => Constraint::Max(22),
        Column::Rate | Column::P99 | Column::Mean => Constraint::Length(8),
        Column::Total => Constraint::Length(12),
        Column::Share => Constraint::Length(5),
        Column::Faults | Column::Failures | Column::Fuel => Constraint::Length(8),
    });
    let head = Column::ALL.map(|column| {
        let style = match column == model.sort {
            true => palette.accent().add_modifier(Modifier::BOLD | Modifier::REVERSED),
            false => Style::new().add_modifier(Modifier::BOLD),
        };
        cell(column, column.title().to_owned()).style(style)
    });
    let rows = model.lines().into_iter().skip(model.scrolled).map(|line| {
        let style = if line.failures > 0 { palette.alarm() } else { Style::new() };
        Row::new(Column::ALL.map(|column| cell(column, text(&line, column)))).style(style)
    });
    Table::new(rows, widths).header(Row::new(head))
}

fn cell(column: Column, text: String) -> Cell<'static> {
    let alignment = match column {
        Column::Msr | Column::Name | Column::Plugin => Alignment::Left,
        _ => Alignment::Right,
    };
    Cell::from(Text::from(text).alignment(alignment))
}

/// A cell's text; lines for pipes have the same.
pub(crate) fn text(line: &Line, column: Column) -> String {
    let time = |nanos: Option<u64>| nanos.map_or("-".to_owned(), tables::nanos);
    match column {
        Column::Msr => line.msr.clone().unwrap_or("-".to_owned()),
        Column::Name => line.name.clone().unwrap_or("-".to_owned()),
        Column::Plugin => line.plugin.clone().unwrap_or("(policy)".to_owned()),
        Column::Rate => short(line.rate),
        Column::Total => line.total.to_string(),
        Column::Share => format!("{:.1}", line.share),
        Column::Mean => time(line.mean),
        Column::P99 => time(line.p99),
        Column::Faults => line.faults.to_string(),
        Column::Failures => line.failures.to_string(),
        Column::Fuel => line.fuel.map_or("-".to_owned(), |fuel| fuel.to_string()),
    }
}

fn short(rate: f64) -> String {
    match rate {
        0.0..10.0 => format!("{rate:.1}"),
        10.0..1e6 => format!("{rate:.0}"),
        _ => format!("{:.2}M", rate / 1e6),
    }
}

fn footer(model: &Model, palette: Palette) -> Text<'_> {
    if model.is_typing {
        return Text::from(vec![
            Span::styled("filter: ", palette.accent()),
            Span::raw(&*model.filter),
            Span::raw("_  (Enter keeps it, Esc clears it)"),
        ]);
    }
    let by = match model.by {
        By::Msr => "by MSR",
        By::Plugin => "by plugin",
    };
    let times = match model.times {
        Times::Boot => "times since the boot",
        Times::Look => "times of the last look",
    };
    let order = if model.reversed { ", reversed" } else { "" };
    let filter = match model.filter.is_empty() {
        true => String::new(),
        false => format!("  filter: {}", model.filter),
    };
    let keys = "? help  q quit  / filter  v view  < > sort";
    Text::from(format!("{keys}  |  {by}, {times}{order}{filter}"))
}

const HELP: &str = "\
 v          by MSR, or by plugin
 < >        sort by the column to the left, right (also arrows)
 r          the other way round
 /          show only lines with a text; Esc shows all
 l          times and fuel since the boot, or of the last look
 p, space   pause
 up, down   scroll (also page keys, home)
 q, Ctrl-C  quit

 Times are of a sample: the first 64 accesses
 of a line, and every 64th after that.";

fn help(frame: &mut Frame<'_>, palette: Palette) {
    let whole = frame.area();
    let (width, height) = (whole.width.min(64), whole.height.min(14));
    let area = Rect { x: (whole.width - width) / 2, y: (whole.height - height) / 2, width, height };
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(" wasmsr top ").border_style(palette.accent());
    frame.render_widget(Paragraph::new(HELP).block(block), area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::model::{Key, tests::look};
    use super::*;

    fn drawn(model: &Model, width: u16, height: u16, palette: Palette) -> Terminal<TestBackend> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model, palette)).unwrap();
        terminal
    }

    fn screen(model: &Model) -> String {
        drawn(model, 130, 24, Palette::Plain).backend().to_string()
    }

    fn model() -> Model {
        let mut model = Model::new(look(10, &[("0x10a", "arch-capabilities", 100)]));
        model.look(look(12, &[("0x10a", "arch-capabilities", 300), ("0x1b", "", 2)]));
        model
    }

    #[test]
    fn head_table_and_keys_are_there() {
        let screen = screen(&model());
        for part in
            ["/vms/vm.toml", "101 accesses/s, 302 in all", "RATE/S", "0x10a", "(policy)", "? help"]
        {
            assert!(screen.contains(part), "no `{part}`:\n{screen}");
        }
        let first = screen.find("0x10a");
        assert!(first < screen.find("0x1b "), "the fastest is the first:\n{screen}");
    }

    #[test]
    fn modes_are_told() {
        let mut model = model();
        model.press(Key::Char('p'));
        model.trouble = Some("no answer".into());
        assert!(screen(&model).contains("no answer  PAUSED"), "{}", screen(&model));
        model.press(Key::Char('?'));
        assert!(screen(&model).contains("the other way round"));
        model.press(Key::Escape);
        model.press(Key::Char('/'));
        model.press(Key::Char('k'));
        assert!(screen(&model).contains("filter: k_"));
        assert!(!screen(&model).contains("0x10a  "), "{}", screen(&model));
    }

    #[test]
    fn every_size_can_be_drawn() {
        let mut model = model();
        for shows_help in [false, true] {
            model.shows_help = shows_help;
            for (width, height) in [(1, 1), (1, 50), (200, 1), (20, 5), (80, 24), (300, 100)] {
                drawn(&model, width, height, Palette::Colours);
            }
        }
    }

    #[test]
    fn there_are_no_colours_without_colours() {
        let coloured = |palette| {
            let terminal = drawn(&model(), 130, 24, palette);
            terminal.backend().buffer().content().iter().any(|cell| cell.fg != Color::Reset)
        };
        assert!(coloured(Palette::Colours));
        assert!(!coloured(Palette::Plain));
    }
}
