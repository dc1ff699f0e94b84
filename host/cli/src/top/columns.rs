//! The columns of `top`, and which of them fit on a screen.

use wasmsr_stats::{OTHERS, POLICY, Shadow};

use super::line::Line;
use super::value::Value;

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Msr,
    Plugin,
    /// A shadow, compared with its plugin.
    Shadow,
}

/// The columns of lines. Lines are sorted by one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Msr,
    Name,
    Plugin,
    Rate,
    Total,
    Share,
    Mean,
    P99,
    Faults,
    Failures,
    Fuel,
}

/// How wide a column may be, and how soon it is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    least: u16,
    most: u16,
    /// The highest rank is left out first.
    rank: u8,
}

const fn room(least: u16, most: u16, rank: u8) -> Room {
    Room { least, most, rank }
}

const BY_MSR: [Column; 11] = [
    Column::Msr,
    Column::Name,
    Column::Plugin,
    Column::Rate,
    Column::Total,
    Column::Share,
    Column::Mean,
    Column::P99,
    Column::Faults,
    Column::Failures,
    Column::Fuel,
];

impl By {
    /// The columns from left to right; none for shadows, which have their own.
    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            By::Msr => &BY_MSR,
            By::Plugin => BY_MSR.split_at(2).1,
            By::Shadow => &[],
        }
    }
}

impl Column {
    pub(super) fn title(self) -> &'static str {
        match self {
            Column::Msr => "MSR",
            Column::Name => "NAME",
            Column::Plugin => "PLUGIN",
            Column::Rate => "RATE/S",
            Column::Total => "TOTAL",
            Column::Share => "%",
            Column::Mean => "MEAN",
            Column::P99 => "P99",
            Column::Faults => "FAULTS",
            Column::Failures => "FAILURES",
            Column::Fuel => "FUEL",
        }
    }

    /// Whether it is text: text is sorted upwards, numbers downwards.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Column::Msr | Column::Name | Column::Plugin)
    }

    pub(super) fn room(self) -> Room {
        match self {
            Column::Msr => room(10, 10, 0),
            Column::Plugin => room(12, 22, 1),
            Column::Rate => room(7, 7, 2),
            Column::Name => room(12, 28, 3),
            Column::Total => room(8, 8, 4),
            Column::Mean => room(7, 7, 5),
            Column::Share => room(5, 5, 6),
            Column::P99 => room(7, 7, 7),
            Column::Failures => room(8, 8, 8),
            Column::Faults => room(6, 6, 9),
            Column::Fuel => room(6, 6, 10),
        }
    }

    pub(super) fn value(self, line: &Line) -> Value {
        match self {
            Column::Msr => Value::Text(line.msr.clone().unwrap_or(OTHERS.to_owned())),
            Column::Name => Value::Text(line.name.clone().unwrap_or("-".to_owned())),
            Column::Plugin => Value::Text(line.plugin.clone().unwrap_or(POLICY.to_owned())),
            Column::Rate => Value::Rate(line.rate),
            Column::Total => Value::Count(line.total),
            Column::Share => Value::Share(line.share),
            Column::Mean => Value::Time(line.mean),
            Column::P99 => Value::Time(line.p99),
            Column::Faults => Value::Count(line.faults),
            Column::Failures => Value::Count(line.failures),
            Column::Fuel => Value::Fuel(line.fuel),
        }
    }
}

/// A column about shadows: its title, its width and its value.
pub(super) type ShadowColumn = (&'static str, Room, fn(&Shadow) -> Value);

pub(super) const SHADOWS: [ShadowColumn; 11] = [
    ("SHADOW", room(10, 22, 0), |shadow| Value::Text(shadow.plugin.clone())),
    ("VERSION", room(7, 12, 7), |shadow| Value::Text(shadow.version.clone())),
    ("OF", room(8, 22, 4), |shadow| Value::Text(shadow.of.clone())),
    ("ACCESSES", room(8, 8, 1), |shadow| Value::Count(shadow.accesses)),
    ("ANSWERS", room(7, 7, 2), |shadow| Value::Count(shadow.answers)),
    ("EFFECTS", room(7, 7, 3), |shadow| Value::Count(shadow.effects)),
    ("UNCLAIMED", room(9, 9, 5), |shadow| Value::Count(shadow.unclaimed)),
    ("FAILURES", room(8, 8, 6), |shadow| Value::Count(shadow.failures)),
    ("FUEL", room(7, 7, 8), |shadow| Value::Fuel(shadow.mean_fuel)),
    ("IN CHARGE", room(9, 9, 9), |shadow| Value::Fuel(shadow.mean_fuel_in_charge)),
    ("TIME ADDED", room(10, 10, 10), |shadow| Value::Time(shadow.mean_ns)),
];

/// The width of each column on a screen of this width, with one cell between two
/// columns; `None` for those that do not fit.
pub(super) fn fitting(rooms: &[Room], width: u16) -> Vec<Option<u16>> {
    let mut ranked: Vec<usize> = (0..rooms.len()).collect();
    ranked.sort_by_key(|&position| rooms.get(position).map(|room| room.rank));
    let mut widths = vec![None; rooms.len()];
    let mut left = width;
    for (placed, &position) in ranked.iter().enumerate() {
        let (Some(room), Some(own)) = (rooms.get(position), widths.get_mut(position)) else {
            continue;
        };
        let gap = u16::from(placed > 0);
        if placed > 0 && room.least + gap > left {
            break;
        }
        // The first column is shown on any screen.
        let least = room.least.min(left - gap);
        *own = Some(least);
        left -= least + gap;
    }
    while left > 0 {
        let before = left;
        for (own, room) in widths.iter_mut().zip(rooms) {
            if let Some(own) = own
                && *own < room.most
                && left > 0
            {
                *own += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The titles that fit, with their widths.
    fn fit(by: By, width: u16) -> Vec<(&'static str, u16)> {
        let columns = by.columns();
        let rooms: Vec<Room> = columns.iter().map(|column| column.room()).collect();
        let fitting = fitting(&rooms, width);
        let shown = columns.iter().zip(fitting);
        shown.filter_map(|(column, width)| Some((column.title(), width?))).collect()
    }

    fn titles(by: By, width: u16) -> Vec<&'static str> {
        fit(by, width).into_iter().map(|(title, _)| title).collect()
    }

    #[test]
    fn who_and_how_often_stay_the_longest() {
        assert_eq!(titles(By::Msr, 1), ["MSR"]);
        assert_eq!(titles(By::Msr, 31), ["MSR", "PLUGIN", "RATE/S"]);
        assert_eq!(
            titles(By::Msr, 80),
            ["MSR", "NAME", "PLUGIN", "RATE/S", "TOTAL", "%", "MEAN", "P99"]
        );
        assert_eq!(titles(By::Msr, 130).len(), BY_MSR.len());
        assert_eq!(titles(By::Plugin, 80).first(), Some(&"PLUGIN"));
        assert_eq!(titles(By::Plugin, 80).len(), BY_MSR.len() - 2, "all of them");
    }

    #[test]
    fn they_never_exceed_the_screen_and_wider_ones_show_no_less() {
        for by in [By::Msr, By::Plugin] {
            let mut shown = 0;
            for width in 0..=300 {
                let columns = fit(by, width);
                let sum: u16 = columns.iter().map(|(_, width)| width).sum();
                let gaps = u16::try_from(columns.len()).unwrap() - 1;
                assert!(sum + gaps <= width, "{columns:?} in {width}");
                assert!(columns.len() >= shown, "{columns:?} in {width}");
                shown = columns.len();
            }
        }
    }

    #[test]
    fn a_standard_screen_shows_what_shadows_did() {
        let fitting = fitting(&SHADOWS.map(|(_, room, _)| room), 80);
        let hidden = SHADOWS.iter().zip(fitting).filter(|(_, it)| it.is_none());
        let hidden: Vec<_> = hidden.map(|((title, ..), _)| *title).collect();
        assert_eq!(hidden, ["IN CHARGE", "TIME ADDED"]);
    }
}
