//! fio in a guest: what it is told to do and what it says.

use mirrorball_debian::Root;

use super::super::BenchError;

/// Bytes of the disk that is read and of the one that is written.
pub const DISK: u64 = 32 << 20;

/// A kind of transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Id, and fio's name of it.
    pub id: &'static str,
    /// In words.
    pub what: &'static str,
    /// Whether it reads the first disk or writes the second.
    pub reads: bool,
    /// Whether it is compared for its own sake.
    counts: bool,
    /// fio's settings.
    settings: &'static str,
}

impl Job {
    /// Whether there is a wish for it; the others explain.
    pub const fn counts(&self) -> bool {
        self.counts
    }
}

/// All of them, in the order in which they are run.
pub const JOBS: [Job; 5] = [
    Job {
        id: "read",
        what: "sequential reads of 1 MiB",
        reads: true,
        counts: true,
        settings: "rw=read bs=1M iodepth=4 size=32M io_size=96M",
    },
    Job {
        id: "random-read",
        what: "random reads of 4 KiB",
        reads: true,
        counts: true,
        settings: "rw=randread bs=4k iodepth=16 size=32M io_size=6M",
    },
    // Writes below are to blocks that were written before: QEMU's file has them from the start.
    Job {
        id: "first-write",
        what: "sequential writes of 1 MiB to blocks never written before",
        reads: false,
        counts: false,
        settings: "rw=write bs=1M iodepth=4 size=32M",
    },
    Job {
        id: "write",
        what: "sequential writes of 1 MiB",
        reads: false,
        counts: true,
        settings: "rw=write bs=1M iodepth=4 size=32M io_size=96M",
    },
    Job {
        id: "random-write",
        what: "random writes of 4 KiB",
        reads: false,
        counts: true,
        settings: "rw=randwrite bs=4k iodepth=16 size=32M io_size=6M",
    },
];

/// A root that has fio.
pub fn root() -> (Root, Option<u64>) {
    let packages = vec!["fio".to_owned()];
    let sources = Vec::new();
    (Root::Full { packages, sources }, Some(512 << 20))
}

/// A command that runs jobs one after the other, straight on the guest's second and third disk,
/// and prints a line for each.
pub fn command<'a>(jobs: impl Iterator<Item = &'a Job>) -> String {
    let mut line = "fio --output-format=terse --terse-version=3 --direct=1 --ioengine=libaio \
                    --randrepeat=1 --norandommap --thread"
        .to_owned();
    for job in jobs {
        let disk = if job.reads { "vdb" } else { "vdc" };
        line.push_str(&format!(
            " --name={} --stonewall --filename=/dev/{disk}",
            job.id
        ));
        for setting in job.settings.split(' ') {
            line.push_str(" --");
            line.push_str(setting);
        }
    }
    line
}

/// Fields of fio's terse lines, counted from 0 (fio's HOWTO, "Terse output").
const NAME: usize = 2;
const ERROR: usize = 4;
const READ_SPEED: usize = 6;
const WRITE_SPEED: usize = 47;

/// MiB each second that a job moved.
pub fn speed(output: &[u8], job: &Job) -> Result<f64, BenchError> {
    let text = String::from_utf8_lossy(output);
    let line = text
        .lines()
        .map(|line| line.split(';').collect::<Vec<_>>())
        .find(|fields| fields.get(NAME) == Some(&job.id));
    let field = if job.reads { READ_SPEED } else { WRITE_SPEED };
    let kibibytes = line
        .filter(|fields| fields.get(ERROR) == Some(&"0"))
        .and_then(|fields| fields.get(field)?.parse::<f64>().ok())
        .filter(|speed| *speed > 0.0);
    kibibytes
        .map(|speed| speed / 1024.0)
        .ok_or_else(|| BenchError(format!("fio said nothing of `{}`: {}", job.id, text.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_found_by_the_jobs_names() {
        let line = |name: &str, error: &str, read: &str, write: &str| {
            let mut fields = vec!["0"; 60];
            fields[NAME] = name;
            fields[ERROR] = error;
            (fields[READ_SPEED], fields[WRITE_SPEED]) = (read, write);
            fields.join(";")
        };
        let text = format!(
            "fio: a warning\n{}\n{}\n",
            line("read", "0", "2048", "0"),
            line("random-write", "5", "0", "512")
        );
        assert_eq!(speed(text.as_bytes(), &JOBS[0]).unwrap(), 2.0);
        assert!(speed(text.as_bytes(), &JOBS[1]).is_err(), "not there");
        assert!(speed(text.as_bytes(), &JOBS[4]).is_err(), "failed");
    }

    #[test]
    fn each_job_has_its_disk() {
        let line = command(JOBS.iter());
        assert_eq!(line.matches("--filename=/dev/vdb").count(), 2);
        assert_eq!(line.matches("--filename=/dev/vdc").count(), 3);
        assert!(line.contains("--name=random-read --stonewall"));
    }
}
