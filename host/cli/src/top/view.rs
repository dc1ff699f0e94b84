//! The screen of `top`, drawn from its model.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Sparkline, Table};
use wasmsr_interface::counted;
use wasmsr_stats::Shadow;

use super::columns::{By, Room, SHADOWS, fitting};
use super::model::{Model, Times};
use super::value::{Value, cut, cut_front};
use crate::terminal::tables;

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
    let heights = heights(frame.area().height).map(Constraint::Length);
    let [head, spark, table, foot] = Layout::vertical(heights).areas(frame.area());
    frame.render_widget(Paragraph::new(header(model, palette, head.width)), head);
    sparkline(frame, model, palette, spark);
    frame.render_widget(Lines::of(model, palette).table(model, table), table);
    frame.render_widget(Paragraph::new(footer(model, palette, foot.width)), foot);
    if model.shows_help {
        help(frame, palette);
    }
}

/// The heights of the head, the sparkline, the table and the foot. On a low screen the
/// table has the rows.
fn heights(all: u16) -> [u16; 4] {
    let (head, spark, foot) = match all {
        0..3 => (0, 0, 0),
        3 => (1, 0, 0),
        4..6 => (1, 0, 1),
        6..10 => (2, 0, 1),
        _ => (2, 3, 1),
    };
    [head, spark, all - head - spark - foot, foot]
}

fn header(model: &Model, palette: Palette, width: u16) -> Vec<Text<'static>> {
    let now = &model.now;
    let about = format!(
        "  process {}  up {}  vCPUs {}  boots {}",
        now.pid,
        tables::span(now.uptime),
        now.vcpus,
        now.boots
    );
    let profile = cut_front(&now.profile, usize::from(width).saturating_sub(about.chars().count()));
    let bold = palette.accent().add_modifier(Modifier::BOLD);
    let total = now.msrs.iter().fold(0, |sum: u64, row| sum.saturating_add(row.accesses()));
    let failures = now.msrs.iter().fold(0, |sum: u64, row| sum.saturating_add(row.failures));
    let differences = now.shadows.iter().map(Shadow::differences).fold(0, u64::saturating_add);
    let rate = Value::Rate(model.rate()).within(9);
    let mut second = vec![Span::raw(format!("{rate} accesses/s, {total} in all"))];
    let mut alarm = |text: String| second.push(Span::styled(text, palette.alarm()));
    if model.is_paused {
        alarm("  PAUSED".to_owned());
    }
    if failures > 0 {
        alarm(format!("  {}", counted(failures, "failure", "failures")));
    }
    if differences > 0 {
        alarm(format!("  {}", counted(differences, "difference", "differences")));
    }
    if let Some(trouble) = &model.trouble {
        alarm(format!("  {trouble}"));
    } else if now.boot_uptime.is_none() {
        alarm("  between two boots".to_owned());
    }
    vec![Text::from(vec![Span::styled(profile, bold), Span::raw(about)]), Text::from(second)]
}

fn sparkline(frame: &mut Frame<'_>, model: &Model, palette: Palette, area: Rect) {
    // The latest is at the right edge.
    let skipped = model.history.len().saturating_sub(usize::from(area.width));
    let data: Vec<u64> = model.history.iter().skip(skipped).copied().collect();
    frame.render_widget(Sparkline::default().data(data).style(palette.accent()), area);
}

/// The contents of the table.
struct Lines {
    columns: Vec<(&'static str, Room, Style)>,
    rows: Vec<(Vec<Value>, Style)>,
}

impl Lines {
    fn of(model: &Model, palette: Palette) -> Self {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let alarm_if = |alarm| if alarm { palette.alarm() } else { Style::new() };
        if model.by == By::Shadow {
            let rows = model.shadows().into_iter().map(|shadow| {
                let values = SHADOWS.iter().map(|(_, _, value)| value(shadow)).collect();
                (values, alarm_if(shadow.differences() > 0 || shadow.failures > 0))
            });
            let columns = SHADOWS.iter().map(|(title, room, _)| (*title, *room, bold));
            return Lines { rows: rows.collect(), columns: columns.collect() };
        }
        let columns = model.by.columns();
        let rows = model.lines().into_iter().map(|line| {
            let values = columns.iter().map(|column| column.value(&line)).collect();
            (values, alarm_if(line.failures > 0))
        });
        let sorted = palette.accent().add_modifier(Modifier::BOLD | Modifier::REVERSED);
        let columns = columns.iter().map(|column| {
            let style = if *column == model.sort { sorted } else { bold };
            (column.title(), column.room(), style)
        });
        Lines { rows: rows.collect(), columns: columns.collect() }
    }

    fn table(self, model: &Model, area: Rect) -> Table<'static> {
        let rooms: Vec<Room> = self.columns.iter().map(|(_, room, _)| *room).collect();
        let widths = fitting(&rooms, area.width);
        let numbers = self.rows.first();
        let is_number = |column| {
            let value = numbers.and_then(|(values, _)| values.get(column));
            value.is_some_and(Value::is_number)
        };
        let shown = |column: usize| widths.get(column).copied().flatten();
        let head = self.columns.iter().enumerate().filter_map(|(column, (title, _, style))| {
            let width = shown(column)?;
            Some(cell(cut(title, width.into()), is_number(column)).style(*style))
        });
        let head = Row::new(head.collect::<Vec<_>>());
        let rows = self.rows.iter().skip(model.scrolled).take(area.height.into());
        let rows = rows.map(|(values, style)| {
            let cells = values.iter().enumerate().filter_map(|(column, value)| {
                Some(cell(value.within(shown(column)?.into()), value.is_number()))
            });
            Row::new(cells.collect::<Vec<_>>()).style(*style)
        });
        let constraints = widths.iter().flatten().map(|width| Constraint::Length(*width));
        let table = Table::new(rows.collect::<Vec<_>>(), constraints.collect::<Vec<_>>());
        // Without a row the titles are left out.
        if area.height > 1 { table.header(head) } else { table }
    }
}

fn cell(text: String, is_number: bool) -> Cell<'static> {
    let alignment = if is_number { Alignment::Right } else { Alignment::Left };
    Cell::from(Text::from(text).alignment(alignment))
}

fn footer(model: &Model, palette: Palette, width: u16) -> Text<'static> {
    if model.is_typing {
        return Text::from(vec![
            Span::styled("filter: ", palette.accent()),
            Span::raw(format!("{}_  (Enter keeps it, Esc clears it)", model.filter)),
        ]);
    }
    let times = match model.times {
        Times::Boot => "times since the boot",
        Times::Look => "times of the last update",
    };
    let order = if model.reversed { ", reversed" } else { "" };
    let sorted = format!("sorted by {}{order}, {times}", model.sort.title());
    let modes = match model.by {
        By::Msr => format!("by MSR, {sorted}"),
        By::Plugin => format!("by plugin, {sorted}"),
        By::Shadow => "shadows".to_owned(),
    };
    let filter = match model.filter.is_empty() {
        true => String::new(),
        false => format!("filter: {}  |  ", model.filter),
    };
    Text::from(cut(&format!("? help  q quit  |  {filter}{modes}"), width.into()))
}

const HELP: [&str; 11] = [
    " v           by MSR, by plugin, or shadows where there are any",
    " < >         sort by the column to the left, right (also arrows)",
    " r           reverse the order",
    " /           show only lines with this text; Esc shows all",
    " l           times and fuel since the boot, or of the last update",
    " p, space    pause",
    " up, down    scroll (also page keys, home)",
    " q, Ctrl-C   quit",
    "",
    " Times and fuel come from a sample of the accesses, for shadows",
    " from all of them. A narrow screen shows fewer columns.",
];

fn help(frame: &mut Frame<'_>, palette: Palette) {
    let whole = frame.area();
    let (width, height) = (whole.width.min(68), whole.height.min(13));
    let area = Rect { x: (whole.width - width) / 2, y: (whole.height - height) / 2, width, height };
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(" wasmsr top ").border_style(palette.accent());
    let lines: Vec<Text<'_>> = HELP.into_iter().map(Text::from).collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::columns::Column;
    use super::super::model::{Key, tests::look};
    use super::*;

    fn drawn(model: &Model, width: u16, height: u16, palette: Palette) -> Terminal<TestBackend> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model, palette)).unwrap();
        terminal
    }

    fn text(model: &Model, width: u16, height: u16) -> String {
        drawn(model, width, height, Palette::Plain).backend().to_string()
    }

    fn screen(model: &Model) -> String {
        text(model, 80, 24)
    }

    #[track_caller]
    fn check(screen: &str, parts: &[&str]) {
        for part in parts {
            assert!(screen.contains(part), "no `{part}`:\n{screen}");
        }
    }

    fn model() -> Model {
        let mut model = Model::new(look(10, &[("0x10a", "arch-capabilities", 100)]));
        model.look(look(12, &[("0x10a", "arch-capabilities", 300), ("0x1b", "", 2)]));
        model
    }

    #[test]
    fn a_standard_screen_has_all_that_matters() {
        let mut model = model();
        model.now.msrs[0].name = Some("IA32_ARCH_CAPABILITIES".into());
        let screen = screen(&model);
        check(
            &screen,
            &[
                "/vms/vm.toml",
                "101 accesses/s, 302 in all",
                "MSR        NAME            PLUGIN          RATE/S    TOTAL     %    MEAN     P99",
                "0x10a      IA32_ARCH_CAPA… arch-capabili…     100      300  99.0       -       -",
                "? help  q quit  |  by MSR, sorted by RATE/S, times since the boot",
            ],
        );
        let first = screen.find("0x10a");
        assert!(first < screen.find("0x1b "), "the fastest is the first:\n{screen}");
    }

    #[test]
    fn by_plugin_the_plugin_is_first_and_whole() {
        let mut model = model();
        model.press(Key::Char('v'));
        let screen = screen(&model);
        check(&screen, &["\"PLUGIN ", "\"arch-capabilities ", "\"(policy) ", "FAILURES", "FUEL"]);
        assert!(!screen.contains("MSR "), "{screen}");
    }

    #[test]
    fn long_numbers_keep_their_magnitude() {
        let mut model = model();
        let row = &mut model.now.msrs[0];
        (row.reads, row.faults) = (u64::MAX, 100_000_000);
        check(&text(&model, 100, 24), &["18.4E"]);
        model.press(Key::Char('v'));
        check(&screen(&model), &["18.4E"]);
        model.now.msrs[0].reads = 12_345_678_901;
        check(&screen(&model), &[" 12.3G ", " 100M "]);
    }

    #[test]
    fn a_filter_is_seen_on_a_standard_screen() {
        let mut model = model();
        model.filter = "arch".into();
        check(&screen(&model), &["filter: arch  |  by MSR, sorted"]);
    }

    #[test]
    fn a_low_screen_shows_rows() {
        for height in 1..=12 {
            let screen = text(&model(), 80, height);
            check(&screen, &["0x10a "]);
            assert_eq!(screen.contains("RATE/S  "), height >= 2, "{screen}");
        }
        assert!(text(&model(), 80, 3).contains("/vms/vm.toml"));
    }

    #[test]
    fn the_sparkline_is_drawn() {
        let mut model = model();
        assert!(screen(&model).contains('█'), "{}", screen(&model));
        model.history.clear();
        assert!(!screen(&model).contains('█'), "{}", screen(&model));
    }

    #[test]
    fn shadows_are_a_view_where_there_are_any() {
        let mut model = model();
        model.press(Key::Char('v'));
        model.press(Key::Char('v'));
        assert_eq!(model.by, By::Msr, "there are none");
        model.now.shadows = vec![Shadow {
            plugin: "candidate".into(),
            version: "2.0.0".into(),
            of: "arch-capabilities".into(),
            accesses: 31_040,
            answers: 7,
            mean_fuel: Some(4321),
            ..Shadow::default()
        }];
        check(&screen(&model), &["7 differences"]);
        model.press(Key::Char('v'));
        model.press(Key::Char('v'));
        check(&screen(&model), &["candidate", "2.0.0", "arch-ca", "31040", " 7 ", "4321"]);
        model.press(Key::Char('v'));
        assert_eq!(model.by, By::Msr);
    }

    #[test]
    fn modes_are_told() {
        let mut model = model();
        model.press(Key::Char('p'));
        model.trouble = Some("no answer".into());
        check(&screen(&model), &["PAUSED  no answer"]);
        model.press(Key::Char('?'));
        check(&screen(&model), &["│ v           by MSR", "│ r           reverse the order"]);
        model.press(Key::Escape);
        model.press(Key::Char('/'));
        model.press(Key::Char('k'));
        check(&screen(&model), &["filter: k_"]);
        assert!(!screen(&model).contains("0x10a  "), "{}", screen(&model));
        model.press(Key::Escape);
        model.sort = Column::Fuel;
        check(&screen(&model), &["sorted by FUEL"]);
    }

    #[test]
    fn every_size_can_be_drawn() {
        let mut model = model();
        for shows_help in [false, true] {
            model.shows_help = shows_help;
            for width in [1, 2, 11, 20, 80, 300] {
                for height in [1, 2, 5, 24, 100] {
                    drawn(&model, width, height, Palette::Colours);
                }
            }
        }
    }

    #[test]
    fn whatever_a_vm_tells_can_be_drawn() {
        let mut model = model();
        model.now.msrs[0].reads = u64::MAX;
        model.now.shadows = vec![Shadow {
            answers: u64::MAX,
            effects: u64::MAX,
            mean_ns: Some(u64::MAX),
            ..Shadow::default()
        }];
        (model.now.uptime, model.now.boot_uptime) = (f64::MAX, Some(f64::MIN));
        model.look(model.now.clone());
        model.history.push_back(u64::MAX);
        for _ in 0..3 {
            screen(&model);
            model.press(Key::Char('v'));
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
