//! What people see: the console, log lines, tables, bars of long work, and signals.

pub(crate) mod console;
pub(crate) mod log;
pub(crate) mod log_record;
pub(crate) mod plain;
pub(crate) mod progress;
pub(crate) mod signals;
pub(crate) mod tables;
pub(crate) mod words;
