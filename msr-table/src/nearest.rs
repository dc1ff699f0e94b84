//! The name that a mistyped one was probably meant to be.

/// Names longer than this are not compared: the table has none.
const LONGEST: usize = 48;

/// The nearest name of the table, if one is near: it differs in at most a third of its
/// characters.
pub fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > LONGEST {
        return None;
    }
    let mut best = None;
    let mut bound = name.len() / 3 + 1;
    let letters = letters(name);
    for (known, _) in crate::names() {
        // A plugin pays for each instruction: most names are told apart without a comparison.
        if known.len().abs_diff(name.len()) < bound
            && missing(letters, known) < bound
            && let Some(distance) = distance(known.as_bytes(), name.as_bytes(), bound)
            && distance < bound
        {
            best = Some(known);
            bound = distance;
        }
    }
    best
}

/// How often each letter occurs; digits and others share places with some.
fn letters(name: &str) -> [u8; 32] {
    let mut counts = [0; 32];
    for byte in name.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte & 31)) {
            *count += 1;
        }
    }
    counts
}

/// How many letters of a name of the table the other has not: never more than the distance.
fn missing(mut letters: [u8; 32], known: &str) -> usize {
    let lacks = known.bytes().filter(|byte| match letters.get_mut(usize::from(byte & 31)) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    lacks.count()
}

/// How many characters must be inserted, removed or changed, if fewer than `bound`.
fn distance(known: &[u8], name: &[u8], bound: usize) -> Option<usize> {
    let mut row = [0_usize; LONGEST + 1];
    let row = row.get_mut(..=name.len())?;
    for (at, cell) in row.iter_mut().enumerate() {
        *cell = at;
    }
    for (line, letter) in known.iter().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        let mut least = left;
        let (first, rest) = row.split_first_mut()?;
        *first = left;
        for (cell, other) in rest.iter_mut().zip(name) {
            let above = *cell;
            let changed = diagonal + usize::from(!letter.eq_ignore_ascii_case(other));
            left = changed.min(above + 1).min(left + 1);
            *cell = left;
            diagonal = above;
            least = least.min(left);
        }
        if least >= bound {
            return None;
        }
    }
    row.last().copied()
}
