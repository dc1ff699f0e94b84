//! The documents: where their links lead, and parts of them that are made from
//! the code.

pub mod generated;
pub mod links;
pub mod pages;
pub mod reference;
pub mod rendered;
