use std::path::Path;

use super::super::{HostFacts, Loaded, SpecError, check_changed};

const FILE: &str = "\
version: 1
name: x
machine: { memory: 1 GiB }
guests:
  - { id: web, count: 2, memory: 16 MiB, workload: { name: touch, zero: 5 % } }
  - { id: db, count: 1, memory: 32 MiB, workload: { name: splash } }
matrix: [none, all]
";

fn load(rest: &str, settings: &[&str]) -> Result<Loaded, SpecError> {
    let host = HostFacts {
        memory: 16 << 30,
        results: None,
    };
    let settings = settings.iter().map(|&text| text.to_owned());
    let settings = settings.collect::<Vec<_>>();
    check_changed(
        "x.yaml",
        format!("{FILE}{rest}"),
        &settings,
        Path::new("."),
        &host,
    )
}

fn ids(sweep: &str) -> Vec<String> {
    let loaded = load(sweep, &[]).unwrap_or_else(|error| panic!("{error}"));
    let cells = loaded.experiment.matrix.into_iter();
    cells.map(|cell| cell.id).collect()
}

#[test]
fn a_matrix_is_every_combination_and_the_last_path_changes_fastest() {
    let sweep = "sweep: { matrix: { guests.web.count: [1, 4], scanner.interval: [1 s, 0.5 s] }, sets: [all] }\n";
    assert_eq!(
        ids(sweep),
        ["none", "all-1-1s", "all-1-0_5s", "all-4-1s", "all-4-0_5s"]
    );
}

#[test]
fn lists_side_by_side_named_points_and_blocks_follow_each_other() {
    let sweep = "\
sweep:
  - zip: { guests.web.memory: [16 MiB, 32 MiB], guests.web.workload.zero: [10 %, 20 %] }
    sets: [none]
  - points:
      small: { guests.db.memory: 16 MiB }
      large: { guests.db.memory: 64 MiB, scanner.order: sequential }
  - { guests: db, count: [3], sets: [all] }
";
    assert_eq!(
        ids(sweep),
        [
            "none-16MiB-10pct",
            "none-32MiB-20pct",
            "none-small",
            "none-large",
            "all-small",
            "all-large",
            "all-3"
        ]
    );
}

#[test]
fn points_are_left_out_and_added() {
    let sweep = "\
sweep:
  matrix: { guests.web.count: [1, 2, 3], guests.db.count: [1, 2] }
  exclude: [{ guests.web.count: 2 }, { guests.web.count: 3, guests.db.count: 1 }]
  include: [{ guests.web.count: 9 }]
  label: \"w{guests.web.count}d{guests.db.count}\"
  sets: [all]
";
    let error = load(sweep, &[]).unwrap_err().to_string();
    assert!(error.contains("names a path that is not swept"), "{error}");
    let sweep = sweep.replace(
        "guests.web.count: 9 }",
        "guests.web.count: 9, guests.db.count: 9 }",
    );
    assert_eq!(
        ids(&sweep),
        ["none", "all-w1d1", "all-w1d2", "all-w3d2", "all-w9d9"]
    );
}

#[test]
fn each_cell_is_the_file_with_its_fields_changed() {
    let sweep = "sweep: { matrix: { guests.web.count: [1, 7], phases.settle.until.scans: [5] } }\n";
    let experiment = load(sweep, &[]).unwrap().experiment;
    let last = experiment.matrix.last().unwrap();
    assert_eq!(last.id, "all-7-5");
    assert_eq!(last.point["guests.web.count"], 7);
    assert_eq!(experiment.of(last).phases.settle_scans, 5);
    assert_eq!(experiment.guest_count_of(last), 8);
    assert_eq!(experiment.guest_count(), 8, "of the largest cell");
    assert_eq!(experiment.phases.settle_scans, 2, "the file itself stays");
    let sweep = experiment.sweep.unwrap();
    assert_eq!(
        sweep.fields,
        ["guests.web.count", "phases.settle.until.scans"]
    );
}

#[test]
fn mechanisms_can_be_swept_one_by_one() {
    let file = FILE.replace("matrix: [none, all]\n", "");
    let sweep = "sharing: { disk: on }\nsweep: { matrix: { sharing.zero: [on, off], sharing.content: [on, off] } }\n";
    let host = HostFacts {
        memory: 16 << 30,
        results: None,
    };
    let loaded = check_changed(
        "x.yaml",
        format!("{file}{sweep}"),
        &[],
        Path::new("."),
        &host,
    );
    let cells = loaded
        .unwrap_or_else(|error| panic!("{error}"))
        .experiment
        .matrix;
    let ids = cells
        .iter()
        .map(|cell| cell.id.as_str())
        .collect::<Vec<_>>();
    assert_eq!(
        ids,
        [
            "all-on-on",
            "disk+zero-on-off",
            "disk+content-off-on",
            "disk-off-off"
        ]
    );
    assert!(cells[1].zero && !cells[1].content);
}

#[test]
fn a_setting_changes_the_file_before_the_sweep_does() {
    let sweep = "sweep: { guests: web, count: [1, 2] }\n";
    let settings = ["guests.web.memory=64 MiB", "sweep.count=[5]", "seed=9"];
    let experiment = load(sweep, &settings).unwrap().experiment;
    let ids = experiment.matrix.iter().map(|cell| cell.id.as_str());
    assert_eq!(ids.collect::<Vec<_>>(), ["none-5", "all-5"]);
    let cell = experiment.of(&experiment.matrix[1]);
    assert_eq!((cell.guests[0].memory.0, cell.seed), (64 << 20, 9));
}

#[test]
fn a_setting_that_is_wrong_is_shown_as_it_was_given() {
    let refused = |setting: &str| load("", &[setting]).unwrap_err().to_string();
    assert_eq!(
        refused("guests.web.count=-1"),
        "--set:18: error: `guests[0].count`: -1 is out of range\n      \
         | guests.web.count=-1\n      |                  ^^\n      \
         = expected: a whole number from 0 to 4294967295\n"
    );
    let typo = refused("guests.web.memry=1");
    assert!(typo.contains("did you mean `memory`?"), "{typo}");
}

#[test]
fn every_swept_value_that_is_wrong_is_shown_once_where_it_stands() {
    let sweep =
        "sweep: { matrix: { guests.web.count: [1, -1], guests.web.memory: [16 MiB, 3 MB] } }\n";
    let error = load(sweep, &[]).unwrap_err().to_string();
    assert_eq!(error.matches("-1 is out of range").count(), 1, "{error}");
    assert_eq!(error.matches("`MB` is refused").count(), 1, "{error}");
    assert!(
        error.contains("x.yaml:8:42: error: `guests[0].count`"),
        "{error}"
    );
}

#[test]
fn the_seed_of_the_command_line_is_that_of_all_cells_but_swept_ones() {
    let mut experiment = load("sweep: { guests: web, count: [1] }\n", &[])
        .unwrap()
        .experiment;
    experiment.set_seed(77);
    assert_eq!(experiment.of(&experiment.matrix[0]).seed, 77);
    let mut experiment = load("sweep: { matrix: { seed: [5, 6] } }\n", &[])
        .unwrap()
        .experiment;
    experiment.set_seed(77);
    assert_eq!(experiment.of(&experiment.matrix[1]).seed, 6);
}

const DISKS: &str = "\
images: { a: { directory: . }, b: { directory: .. } }
guests:
  - { id: web, count: 1, memory: 16 MiB, disks: [{ image: a }], workload: { name: scan } }
";

#[test]
fn disks_and_what_images_are_made_of_are_swept() {
    let host = HostFacts {
        memory: 16 << 30,
        results: None,
    };
    let load = |sweep: &str| {
        let head = "version: 1\nname: x\nmachine: { memory: 1 GiB }\nmatrix: [all]\n";
        let text = format!("{head}{DISKS}sweep: {{ matrix: {{ {sweep} }} }}\n");
        let loaded = check_changed("x.yaml", text, &[], Path::new("."), &host);
        loaded.unwrap_or_else(|error| panic!("{error}"))
    };
    let cells = load("\"guests.web.disks[0].image\": [a, b]");
    assert!(
        cells.warnings.is_empty(),
        "each is used: {:?}",
        cells.warnings
    );
    let experiment = &cells.experiment;
    let image = |cell: usize| &experiment.of(&experiment.matrix[cell]).guests[0].disks[0].image;
    assert_eq!((image(0).as_str(), image(1).as_str()), ("a", "b"));

    let recipes = load("images.a: [{ directory: . }, { directory: .. }]");
    let experiment = &recipes.experiment;
    assert_eq!(experiment.matrix[1].id, "all-2");
    let sources = experiment.matrix.iter().map(|set| experiment.of(set));
    let sources = sources.map(|cell| &cell.images["a"]).collect::<Vec<_>>();
    assert_ne!(sources[0], sources[1]);
    // No cell and no guest has `b` now.
    assert_eq!(recipes.warnings.len(), 1, "{:?}", recipes.warnings);
}
