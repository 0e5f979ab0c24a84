//! Writes `samples.csv`, the time series, and reads the machine's part of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub use mirrorball_report::samples::{MACHINE, Sample};

use super::OutputError;

/// The machine's rows in that file, in their order; none without a file. Others are not kept in memory: they
/// may be very many.
#[must_use]
pub fn of_machine(path: &Path) -> Vec<Sample> {
    // No file: the end came before the first sample.
    let Ok(mut reader) = csv::Reader::from_path(path) else {
        return Vec::new();
    };
    let rows = reader.deserialize::<Sample>().map_while(Result::ok);
    rows.filter(|row| row.vm == MACHINE).collect()
}

/// Writes rows to a file that ends with a whole row at any time, also once its disk is full.
#[derive(Debug)]
pub struct SampleWriter {
    path: PathBuf,
    file: File,
    /// Bytes of whole rows in the file.
    length: u64,
}

impl SampleWriter {
    /// Writes to that file, which is empty.
    #[must_use]
    pub const fn new(path: PathBuf, file: File) -> Self {
        Self {
            path,
            file,
            length: 0,
        }
    }

    /// Goes on behind the rows that are in that file, which ends with a whole one.
    ///
    /// # Errors
    /// Its length can't be read.
    pub fn append_to(path: PathBuf, file: File) -> Result<Self, OutputError> {
        match file.metadata() {
            Ok(meta) => Ok(Self {
                path,
                file,
                length: meta.len(),
            }),
            Err(error) => Err(OutputError { path, error }),
        }
    }

    /// Puts all rows on the disk.
    ///
    /// # Errors
    /// They can't be written.
    pub fn sync(&self) -> Result<(), OutputError> {
        self.file.sync_data().map_err(|error| OutputError {
            path: self.path.clone(),
            error,
        })
    }

    /// Bytes of whole rows in the file.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Takes the rows back that were added since the file had that length.
    ///
    /// # Errors
    /// The file can't be cut.
    pub fn cut(&mut self, length: u64) -> Result<(), OutputError> {
        self.file.set_len(length).map_err(|error| OutputError {
            path: self.path.clone(),
            error,
        })?;
        self.length = length;
        Ok(())
    }

    /// Adds rows.
    ///
    /// # Errors
    /// They can't be written; none of them is in the file then.
    pub fn write(&mut self, samples: &[Sample]) -> Result<(), OutputError> {
        self.append(samples).map_err(|error| {
            // A half-written row would keep readers from the rows before it.
            if let Err(cut) = self.file.set_len(self.length) {
                tracing::warn!(%cut, path = %self.path.display(), "the last row may be half a row");
            }
            OutputError {
                path: self.path.clone(),
                error,
            }
        })
    }

    fn append(&mut self, samples: &[Sample]) -> io::Result<()> {
        let mut rows = csv::WriterBuilder::new()
            .has_headers(self.length == 0)
            .from_writer(Vec::new());
        for sample in samples {
            rows.serialize(sample)?;
        }
        let rows = rows.into_inner().map_err(csv::IntoInnerError::into_error)?;
        self.file.write_all_at(&rows, self.length)?;
        self.length += rows.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let machine = Sample {
            cell: "all".into(),
            run: 1,
            time_seconds: 0.125,
            phase: "workload".into(),
            vm: MACHINE.into(),
            guest_physical_bytes: 1 << 40,
            reclaimed_bytes: Some(4096),
            ..Sample::default()
        };
        let vm = Sample {
            vm: "3".into(),
            reclaimed_bytes: None,
            ..machine.clone()
        };
        let mut writer = SampleWriter::new(file.path().into(), file.reopen().unwrap());
        writer.write(&[machine.clone(), vm.clone()]).unwrap();
        let before = writer.length();
        writer.write(std::slice::from_ref(&vm)).unwrap();
        writer.cut(before).unwrap();
        let mut reader = csv::Reader::from_path(file.path()).unwrap();
        let rows = reader
            .deserialize::<Sample>()
            .collect::<Result<Vec<_>, _>>()
            .unwrap();
        assert_eq!(rows, [machine.clone(), vm]);
        assert_eq!(of_machine(file.path()), [machine]);
        assert!(of_machine(Path::new("/no/such/file")).is_empty());
    }

    #[test]
    fn units_are_in_the_names() {
        let file = tempfile::NamedTempFile::new().unwrap();
        SampleWriter::new(file.path().into(), file.reopen().unwrap())
            .write(&[Sample::default()])
            .unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        let unitless = ["cell", "run", "phase", "vm", "vmas", "state", "guests_up"];
        for name in text.lines().next().unwrap().split(',') {
            let unit = ["_bytes", "_seconds", "_pages"]
                .iter()
                .any(|unit| name.ends_with(unit));
            assert!(unit || unitless.contains(&name), "{name}");
        }
    }
}
