//! What the command says of itself: completions and manual pages; in tests, the
//! documents that name it.

pub(crate) mod completions;
#[cfg(test)]
mod documented;
pub(crate) mod man;
#[cfg(test)]
mod reference;
