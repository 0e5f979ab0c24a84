//! The experiment runner: an experiment file in, a folder of results out.
//!
//! It drives the monitor through its public interface only, and knows nothing of KVM, virtio or
//! how sharing is done. `spec` reads the file, `image` makes disks, `run` does the work, `output`
//! writes it down; `simulate` tries the memory policy on
//! model guests; `exit` lists the exit codes that scripts may rely on.

pub mod bench;
pub mod doctor;
pub mod exit;
pub mod image;
pub mod list;
pub mod log;
pub mod output;
pub mod run;
pub(crate) mod samples;
pub mod simulate;
pub mod spec;
