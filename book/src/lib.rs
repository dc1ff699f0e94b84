//! The documents: checks of their links, and the parts that are generated from
//! the code.

pub mod generated;
pub mod links;
pub mod pages;
pub mod reference;
pub mod rendered;
