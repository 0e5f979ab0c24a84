//! Commands on a real emulated host. A machine without QEMU says so and counts.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use mirrorball_host::{
    EmulatedHost, HostError, Interrupts, Job, Machine, PACKAGE, PROGRAM, Stream, Streams, run,
};

const SIGINT: i32 = 2;

static SKIPPED: AtomicU32 = AtomicU32::new(0);

/// Whether QEMU is there; told, if not.
fn can_run(test: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|folder| folder.join(PROGRAM).exists());
    if !there {
        let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        eprintln!("NOT RUN ({count}): {test} needs the package {PACKAGE}");
    }
    there
}

/// What a command printed, as it prints it.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Printed {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

struct Ran {
    result: Result<u8, HostError>,
    stdout: Printed,
    stderr: Printed,
    said: String,
}

/// Runs a shell script with these arguments; `on_line` sees the output as it grows.
fn run_script(
    script: &str,
    arguments: &[&str],
    writable: Vec<PathBuf>,
    machine: Machine,
    on_output: impl Fn(&str, &Interrupts) + Send + 'static,
) -> Ran {
    struct Watched<F> {
        printed: Printed,
        interrupts: Interrupts,
        on_output: F,
    }
    impl<F: Fn(&str, &Interrupts)> Write for Watched<F> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.printed.write(bytes)?;
            (self.on_output)(&String::from_utf8_lossy(bytes), &self.interrupts);
            Ok(count)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let words = ["/bin/sh", "-c", script, "sh"];
    let words = words.iter().chain(arguments);
    let host = EmulatedHost {
        machine,
        job: Job {
            command: words.map(OsString::from).collect(),
            working_folder: "/usr".into(),
            environment: vec![
                ("PATH".into(), "/usr/bin:/bin:/usr/sbin:/sbin".into()),
                ("ODD".into(), "it's \"odd\"\n$HOME".into()),
            ],
            writable,
        },
        cache: std::env::home_dir()
            .unwrap()
            .join(".cache/mirrorball/debian"),
    };
    let (stdout, stderr) = (Printed::default(), Printed::default());
    let interrupts = Interrupts::none();
    let watched = Watched {
        printed: stdout.clone(),
        interrupts: interrupts.clone(),
        on_output,
    };
    let streams = Streams {
        stdout: Stream::to(watched),
        stderr: Stream::to(stderr.clone()),
    };
    let said = Mutex::new(String::new());
    let result = run(&host, streams, &interrupts, &|line| {
        said.lock().unwrap().push_str(&format!("{line}\n"));
    });
    Ran {
        result,
        stdout,
        stderr,
        said: said.into_inner().unwrap(),
    }
}

const SMALL: Machine = Machine {
    memory: 1 << 30,
    cores: 1,
    numa_nodes: 1,
    nested_paging: true,
    parallel: false,
    by_instructions: false,
};

#[test]
fn a_command_finds_its_surroundings_and_its_results_come_out() {
    if !can_run("a_command_finds_its_surroundings_and_its_results_come_out") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (results, other) = (
        place.path().join("my results/x"),
        place.path().join("other"),
    );
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("input"), "from outside").unwrap();
    let script = r#"
        printf 'a\r\nb\n\000\377\004'
        printf '%s|' "$PWD" "$1" "$2" "$ODD" "$MIRRORBALL_HOST" "$MIRRORBALL_HOST_CORES" >&2
        cat "$4/input" /proc/sys/kernel/hostname >&2
        ls /sys/devices/system/node | grep -c '^node' >&2
        cat /sys/module/kvm_amd/parameters/npt /sys/module/kvm/parameters/halt_poll_ns >&2
        cat /proc/sys/vm/max_map_count >&2
        test -c /dev/kvm && grep -qw svm /proc/cpuinfo || exit 1
        grep -qw erms /proc/cpuinfo && exit 4
        echo kept >"$3/kept" && mv "$3/kept" "$3/result" && echo lost >"$4/lost" || exit 2
        exec 9>"$TMPDIR/gone" && rm "$TMPDIR/gone" && truncate -s 8192 /proc/self/fd/9 || exit 3
        date -u +%F >&2
        exit 7
    "#;
    let folders = [results.to_str().unwrap(), other.to_str().unwrap()];
    let arguments = [&["two words", "it's"], &folders[..]].concat();
    let machine = Machine {
        cores: 2,
        numa_nodes: 2,
        nested_paging: false,
        ..SMALL
    };
    let before = today();
    let ran = run_script(
        script,
        &arguments,
        vec![results.clone()],
        machine,
        |_, _| (),
    );
    let stderr = ran.stderr.text();
    assert_eq!(ran.result.unwrap(), 7, "{stderr}\n{}", ran.said);
    assert_eq!(&ran.stdout.0.lock().unwrap()[..], b"a\r\nb\n\0\xff\x04");
    let surroundings = "/usr|two words|it's|it's \"odd\"\n$HOME|emulated|2|\
                        from outsidemirrorball-emulated\n2\nN\n0\n1048576\n";
    let date = stderr
        .strip_prefix(surroundings)
        .unwrap_or_else(|| panic!("{stderr}"));
    assert!(
        [before, today()].contains(&date.trim().to_owned()),
        "{date}"
    );
    assert_eq!(
        std::fs::read_to_string(results.join("result")).unwrap(),
        "kept\n"
    );
    assert!(
        !other.join("lost").exists(),
        "it was written to this machine"
    );
    assert!(
        ran.said.contains("emulated host: up after "),
        "{}",
        ran.said
    );
}

#[test]
fn by_instructions_work_takes_as_long_however_busy_this_machine_is() {
    if !can_run("by_instructions_work_takes_as_long_however_busy_this_machine_is") {
        return;
    }
    static BUSY: AtomicBool = AtomicBool::new(true);
    // The shell's own commands: nothing waits for this machine's files.
    let script = r#"
        for n in 1 2 3; do
            read -r before idle </proc/uptime
            i=0; while [ $i -lt 10000 ]; do i=$((i+1)); done
            read -r after idle </proc/uptime
            echo "$((${after%.*}${after#*.} - ${before%.*}${before#*.}))"
        done
    "#;
    let counted = Machine {
        by_instructions: true,
        ..SMALL
    };
    // After the first the cores have other work, too.
    let started = AtomicBool::new(false);
    let ran = run_script(script, &[], vec![], counted, move |_, _| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if !started.swap(true, Ordering::Relaxed) {
            for _ in 0..2 * cores {
                std::thread::spawn(|| {
                    while BUSY.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
        }
    });
    BUSY.store(false, Ordering::Relaxed);
    assert_eq!(ran.result.unwrap(), 0, "{}", ran.stderr.text());
    let times = ran.stdout.text();
    let times: Vec<f64> = times.lines().map(|time| time.parse().unwrap()).collect();
    let [first, second, third] = times[..] else {
        panic!("{times:?}")
    };
    for busy in [second, third] {
        assert!((busy / first - 1.0).abs() < 0.1, "{times:?}");
    }
}

/// The date here, in UTC.
fn today() -> String {
    let output = std::process::Command::new("date")
        .args(["-u", "+%F"])
        .output();
    String::from_utf8(output.unwrap().stdout)
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn the_first_interrupt_is_the_commands_and_the_second_the_end() {
    if !can_run("the_first_interrupt_is_the_commands_and_the_second_the_end") {
        return;
    }
    let obedient = "trap 'echo bye; exit 130' INT; echo waiting; while :; do sleep 0.1; done";
    let once = |output: &str, interrupts: &Interrupts| {
        if output.contains("waiting") {
            interrupts.raise(SIGINT);
        }
    };
    let ran = run_script(obedient, &[], vec![], SMALL, once);
    assert_eq!(ran.result.unwrap(), 130);
    assert_eq!(ran.stdout.text(), "waiting\nbye\n");

    let stubborn = "trap 'echo waiting' INT; echo waiting; while :; do sleep 0.1; done";
    let ran = run_script(stubborn, &[], vec![], SMALL, once);
    assert!(
        matches!(ran.result, Err(HostError::Stopped(SIGINT))),
        "{:?}",
        ran.result
    );
    assert_eq!(ran.stdout.text(), "waiting\nwaiting\n");
}

#[test]
fn a_host_that_dies_shows_its_console() {
    if !can_run("a_host_that_dies_shows_its_console") {
        return;
    }
    let script = "echo here; echo c >/proc/sysrq-trigger; sleep 600";
    let ran = run_script(script, &[], vec![], SMALL, |_, _| ());
    let error = ran.result.unwrap_err().to_string();
    assert!(error.contains("died while the command ran"), "{error}");
    let panic = "its kernel panicked\n  the last lines of its console:\n    [";
    assert!(error.contains(panic) && error.contains("sysrq"), "{error}");
}

#[test]
fn a_command_that_is_not_there_is_told_from_one_that_fails() {
    if !can_run("a_command_that_is_not_there_is_told_from_one_that_fails") {
        return;
    }
    let ran = run_script("exec /no/such/program", &[], vec![], SMALL, |_, _| ());
    assert!(
        matches!(ran.result, Err(HostError::Command(127))),
        "{:?}",
        ran.result
    );
    assert!(ran.stderr.text().contains("/no/such/program"));
}

#[test]
fn a_machine_whose_command_does_nothing_but_spin_is_interrupted_from_outside() {
    if !can_run("a_machine_whose_command_does_nothing_but_spin_is_interrupted_from_outside") {
        return;
    }
    // No program is started and no file outside is read meanwhile: those would be interrupts, too.
    let script = r#"
        count() {
            count=0
            while read -r line; do
                case $line in *virtio*) set -- $line; count=$((count + $2)) ;; esac
            done </proc/interrupts
        }
        seconds() { IFS=. read -r seconds rest </proc/uptime; }
        count; before=$count
        seconds; until=$((seconds + 2))
        while [ $seconds -lt $until ]; do seconds; done
        count
        echo $((count - before))
    "#;
    let ran = run_script(script, &[], vec![], SMALL, |_, _| ());
    assert_eq!(ran.result.unwrap(), 0, "{}", ran.stderr.text());
    let interrupts: u32 = ran.stdout.text().trim().parse().unwrap();
    assert!(interrupts > 3, "{interrupts} interrupts");
}

#[test]
fn a_machine_that_has_little_memory_left_says_so_before_it_seems_to_hang() {
    if !can_run("a_machine_that_has_little_memory_left_says_so_before_it_seems_to_hang") {
        return;
    }
    let script = r#"
        while read -r name left unit; do [ $name = MemAvailable: ] && break; done </proc/meminfo
        half=$(((left - 70000) / 2))
        head -c ${half}K /dev/zero >/dev/shm/one
        head -c ${half}K /dev/zero >/tmp/other
        sleep 10
    "#;
    let ran = run_script(script, &[], vec![], SMALL, |_, _| ());
    assert_eq!(ran.result.unwrap(), 0, "{}", ran.stderr.text());
    let told = ran.said.matches("MiB of its memory are left").count();
    assert_eq!(told, 1, "{}", ran.said);
    let idle = run_script("sleep 6", &[], vec![], SMALL, |_, _| ());
    assert!(!idle.said.contains("are left"), "{}", idle.said);
}
