//! What results mean: the format of a results folder, statistics over runs, figures, the HTML
//! report, comparisons and packages.
//!
//! It reads what the runner wrote and runs nothing: no KVM, no root, no network. The runner uses
//! its `summary` and `samples` to write, and its figures and table at the end of a run, so that a
//! figure is drawn in one place only.

pub mod anonymous;
pub mod compare;
pub mod derived;
pub mod figure;
pub mod html;
pub mod judge;
pub mod median;
pub mod metrics;
pub mod package;
pub mod results;
pub mod samples;
pub mod schema;
pub mod stats;
pub mod summary;
pub mod sweep;
pub mod table;
pub mod tables;
