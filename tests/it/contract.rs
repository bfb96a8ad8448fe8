//! The contract as a client sees it: bodies and their keys, the order of judgement, problems,
//! request ids, and the document that describes it all.

mod bodies;
pub mod document;
mod judgement;
mod problems;
mod request_ids;
mod ways;
