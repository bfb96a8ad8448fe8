//! Every limit of the running service, brought about for real: what happens there is documented,
//! and passes when its cause does.

mod clients;
mod descriptors;
mod gathering;
mod projection;
mod settings;
mod writer;
