# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_mirrorball_global_optspecs
    string join \n json h/help V/version
end

function __fish_mirrorball_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_mirrorball_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_mirrorball_using_subcommand
    set -l cmd (__fish_mirrorball_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c mirrorball -n "__fish_mirrorball_needs_command" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -s V -l version -d 'Print version'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "run" -d 'Run an experiment, or all of a folder: guests, measurements, results'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "plan" -d 'Print what would be run, with the time and memory that it takes, and start nothing'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "init" -d 'Write an experiment file to begin with'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "show" -d 'Show an experiment file, or all of it with defaults and where each value came from'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "logs" -d 'Show why runs failed, with their consoles, events and outputs'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "samples" -d 'Print the time series of stored results, one JSON object in each line'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "list" -d 'List the experiments of a folder: purpose, and the time that each takes; or metrics, mechanisms, workloads, templates'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "schema" -d 'Print the JSON Schema of experiment files, for editors, or of what runs write, for scripts'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "man" -d 'Print the manual page, or write the pages of all commands to a folder'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "watch" -d 'Watch a run in progress: memory by VM, rates, the scanner; pause a VM, switch a mechanism'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "validate" -d 'Check experiment files and start nothing'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "image" -d 'Make the images of an experiment, of a folder or of a Linux guest, or list those there are'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "bench" -d 'Measure what the mechanisms cost, as ratios from one run'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "simulate" -d 'Try the memory policy on model guests (policy/models/): thousands of them for an hour in seconds; needs no KVM'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "report" -d 'Make one HTML file and figures of stored results; needs no KVM'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "check" -d 'Judge an experiment\'s claims from stored results; needs no KVM'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "compare" -d 'Say what changed beyond noise between two results, or two cells; needs no KVM'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "package" -d 'Pack a results folder with its report, recipes and digests into one archive'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "verify" -d 'Check a package: digests, and that every table follows from its runs; needs no KVM'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "doctor" -d 'Say what this host can do and what is in the way; restore KSM after a killed run'
complete -c mirrorball -n "__fish_mirrorball_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l resume -d 'Do what is left of an interrupted experiment in this results folder' -r -F
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -s o -l output -d 'Folder for results instead of the file\'s' -r -F
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l runs -d 'Runs of each cell instead of the file\'s' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l seed -d 'Seed instead of the file\'s' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l retries -d 'Make a run again so often that failed by the host\'s fault, instead of the file\'s' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l set -d 'Change a field of the file, such as guests.web.count=8 (may be repeated)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l only -d 'Only this cell (may be repeated)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l console -d 'Show this VM\'s console on standard error while it runs (may be repeated)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l max-failures -d 'Begin no other run when so many have failed' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l compare -d 'Compare with a stored result afterwards, or with one cell of it (folder:cell)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l fail-on-regression -d 'With --compare: exit with 7 if a figure is worse by more than so many percent' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l allow -d 'With --compare: although this condition differs, for example provenance.host' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l max-time -d 'Start nothing if it should take longer than this, by earlier runs or else the file\'s estimate' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l max-memory -d 'Start nothing if guests of a run should use more machine memory than this' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l progress -d 'How progress is shown on standard error' -r -f -a "auto\t'A live line on a terminal, plain lines elsewhere'
bar\t'A live line'
plain\t'A line when a run ends, and at least one in 30 s'
none\t'Nothing but warnings and the result'"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l metrics -d 'Serve figures for Prometheus while it runs, such as on 127.0.0.1:9300' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l host -d 'Run on an emulated host: needs no KVM here, only QEMU; sizes are real, times are not' -r -f -a "emulated\t'AMD SVM with nested paging, emulated by QEMU TCG'"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l host-memory -d 'Its memory, such as 4GiB [default: what the experiment needs]' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l host-cores -d 'Its cores: with several, QEMU gives a guest an interrupt twice now and then [default: one for each NUMA node]' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l host-numa -d 'Its NUMA nodes, among which memory and cores are split evenly' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l host-npt -d 'Whether its KVM uses nested paging, or shadow page tables' -r -f -a "on\t''
off\t''"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l host-parallel -d 'Whether its cores are emulated in parallel: faster, but QEMU then fails now and then' -r -f -a "on\t''
off\t''"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l host-clock -d 'What its time is [default: what the experiment says, real]' -r -f -a "real\t'This machine\'s'
instructions\t'Instructions, at 2 ns each: the same whatever else this machine does; QEMU then fails now and then'"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l retry-failed -d 'With --resume: do failed runs again too'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l keep-going -d 'Go on with the next run even after an error that ails the whole host'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l fail-fast -d 'End the experiment with the first run that fails'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l smoke -d 'Run every cell once, as shortly as possible, to see that it works: what it gives is no result'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l strict -d 'Exit with 8 if a claim can\'t be judged'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l dry-run -d 'Print what would be run, and start nothing'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l resume -d 'Do what is left of an interrupted experiment in this results folder' -r -F
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -s o -l output -d 'Folder for results instead of the file\'s' -r -F
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l runs -d 'Runs of each cell instead of the file\'s' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l seed -d 'Seed instead of the file\'s' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l retries -d 'Make a run again so often that failed by the host\'s fault, instead of the file\'s' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l set -d 'Change a field of the file, such as guests.web.count=8 (may be repeated)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l only -d 'Only this cell (may be repeated)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l console -d 'Show this VM\'s console on standard error while it runs (may be repeated)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l max-failures -d 'Begin no other run when so many have failed' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l compare -d 'Compare with a stored result afterwards, or with one cell of it (folder:cell)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l fail-on-regression -d 'With --compare: exit with 7 if a figure is worse by more than so many percent' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l allow -d 'With --compare: although this condition differs, for example provenance.host' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l max-time -d 'Start nothing if it should take longer than this, by earlier runs or else the file\'s estimate' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l max-memory -d 'Start nothing if guests of a run should use more machine memory than this' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l progress -d 'How progress is shown on standard error' -r -f -a "auto\t'A live line on a terminal, plain lines elsewhere'
bar\t'A live line'
plain\t'A line when a run ends, and at least one in 30 s'
none\t'Nothing but warnings and the result'"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l metrics -d 'Serve figures for Prometheus while it runs, such as on 127.0.0.1:9300' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l host -d 'Run on an emulated host: needs no KVM here, only QEMU; sizes are real, times are not' -r -f -a "emulated\t'AMD SVM with nested paging, emulated by QEMU TCG'"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l host-memory -d 'Its memory, such as 4GiB [default: what the experiment needs]' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l host-cores -d 'Its cores: with several, QEMU gives a guest an interrupt twice now and then [default: one for each NUMA node]' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l host-numa -d 'Its NUMA nodes, among which memory and cores are split evenly' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l host-npt -d 'Whether its KVM uses nested paging, or shadow page tables' -r -f -a "on\t''
off\t''"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l host-parallel -d 'Whether its cores are emulated in parallel: faster, but QEMU then fails now and then' -r -f -a "on\t''
off\t''"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l host-clock -d 'What its time is [default: what the experiment says, real]' -r -f -a "real\t'This machine\'s'
instructions\t'Instructions, at 2 ns each: the same whatever else this machine does; QEMU then fails now and then'"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l retry-failed -d 'With --resume: do failed runs again too'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l keep-going -d 'Go on with the next run even after an error that ails the whole host'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l fail-fast -d 'End the experiment with the first run that fails'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l smoke -d 'Run every cell once, as shortly as possible, to see that it works: what it gives is no result'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l strict -d 'Exit with 8 if a claim can\'t be judged'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l dry-run -d 'Print what would be run, and start nothing'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand init" -s o -l output -d 'The file to write [default: TEMPLATE.yaml]' -r -F
complete -c mirrorball -n "__fish_mirrorball_using_subcommand init" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand init" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand show" -l set -d 'Change a field, such as guests.web.count=8 (may be repeated)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand show" -l resolved -d 'Fill in all defaults; what is printed is an experiment file that runs the same'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand show" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand show" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand logs" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand logs" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand samples" -l cell -d 'Only this cell (may be repeated)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand samples" -l run -d 'Only this run of each cell (may be repeated)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand samples" -l vm -d 'Only this VM: its number, or `machine` (may be repeated)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand samples" -l phase -d 'Only this phase, or checkpoint (may be repeated)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand samples" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand samples" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand list" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand list" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand schema" -l reference -d 'Print the reference of all fields instead, in Markdown'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand schema" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand schema" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand completions" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand completions" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand man" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand man" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand watch" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand watch" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand validate" -l set -d 'Change a field, such as guests.web.count=8 (may be repeated)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand validate" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand validate" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and not __fish_seen_subcommand_from list linux help" -l seed -d 'Seed of the table file (of a folder\'s image)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and not __fish_seen_subcommand_from list linux help" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and not __fish_seen_subcommand_from list linux help" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and not __fish_seen_subcommand_from list linux help" -a "list" -d 'List the images in the cache'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and not __fish_seen_subcommand_from list linux help" -a "linux" -d 'Make what a Linux guest boots from Debian packages, and print where it is'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and not __fish_seen_subcommand_from list linux help" -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and __fish_seen_subcommand_from list" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and __fish_seen_subcommand_from linux" -l kernel -d 'A kernel series such as 6.12, a kernel package, or a path (with a /)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and __fish_seen_subcommand_from linux" -l version -d 'Version of the kernel package [default: what apt would install]' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and __fish_seen_subcommand_from linux" -l root -d 'Without packages: `none`, `busybox`, or the path of an ext4 image' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and __fish_seen_subcommand_from linux" -l package -d 'A Debian package in the root, NAME or NAME=VERSION, with what it depends on (may be repeated)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and __fish_seen_subcommand_from linux" -l source -d 'A Debian source package in the root, below /usr/src (may be repeated)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and __fish_seen_subcommand_from linux" -l size -d 'Size of the root\'s file system [default: what is in it and 256 MiB]' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and __fish_seen_subcommand_from linux" -l module -d 'A kernel module to be loaded besides those that every guest needs (may be repeated)' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and __fish_seen_subcommand_from linux" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and __fish_seen_subcommand_from linux" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the images in the cache'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "linux" -d 'Make what a Linux guest boots from Debian packages, and print where it is'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand bench" -l runs -d 'Repetitions of each measurement' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand bench" -l only -d 'Only these measurements' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand bench" -s o -l output -d 'Also write the JSON to this file' -r -F
complete -c mirrorball -n "__fish_mirrorball_using_subcommand bench" -l host -d 'Run on an emulated host: needs no KVM here, only QEMU; sizes are real, times are not' -r -f -a "emulated\t'AMD SVM with nested paging, emulated by QEMU TCG'"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand bench" -l host-memory -d 'Its memory, such as 4GiB [default: what the experiment needs]' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand bench" -l host-cores -d 'Its cores: with several, QEMU gives a guest an interrupt twice now and then [default: one for each NUMA node]' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand bench" -l host-numa -d 'Its NUMA nodes, among which memory and cores are split evenly' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand bench" -l host-npt -d 'Whether its KVM uses nested paging, or shadow page tables' -r -f -a "on\t''
off\t''"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand bench" -l host-parallel -d 'Whether its cores are emulated in parallel: faster, but QEMU then fails now and then' -r -f -a "on\t''
off\t''"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand bench" -l host-clock -d 'What its time is [default: what the experiment says, real]' -r -f -a "real\t'This machine\'s'
instructions\t'Instructions, at 2 ns each: the same whatever else this machine does; QEMU then fails now and then'"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand bench" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand bench" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand simulate" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand simulate" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand report" -s o -l output -d 'Folder for report.html and figures/; the results folder itself, or report/ for several' -r -F
complete -c mirrorball -n "__fish_mirrorball_using_subcommand report" -l page-only -d 'Write the page only, no figures and no tables beside it'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand report" -l parquet -d 'Write the runs\' figures and the time series as Parquet tables too, for data frames; needs a build with `--features parquet`'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand report" -l anonymous -d 'Leave out names of host and user, paths, addresses and the commit'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand report" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand report" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand check" -l file -d 'Judge the claims of this experiment file instead of those that the results came with' -r -F
complete -c mirrorball -n "__fish_mirrorball_using_subcommand check" -l strict -d 'Exit with 8 if a claim can\'t be judged'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand check" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand check" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand compare" -l fail-on-regression -d 'Exit with 7 if a figure is worse by more than so many percent, its whole interval beyond' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand compare" -l allow -d 'Compare although this condition differs, for example provenance.host.kernel, or all below it, for example provenance.host' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand compare" -l strict -d 'With --fail-on-regression: exit with 8 if that can\'t be said of a figure'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand compare" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand compare" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand package" -s o -l output -d 'The archive; the folder\'s name with .tar.gz, in the current folder' -r -F
complete -c mirrorball -n "__fish_mirrorball_using_subcommand package" -l anonymous -d 'Leave out names of host and user, paths, addresses and the commit'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand package" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand package" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand verify" -l runs -d 'Runs of each cell when it is run again, instead of the experiment\'s' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand verify" -l rerun -d 'Run the experiment again (needs KVM) and compare the results'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand verify" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand verify" -s h -l help -d 'Print help'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand doctor" -l host -d 'Run on an emulated host: needs no KVM here, only QEMU; sizes are real, times are not' -r -f -a "emulated\t'AMD SVM with nested paging, emulated by QEMU TCG'"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand doctor" -l host-memory -d 'Its memory, such as 4GiB [default: what the experiment needs]' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand doctor" -l host-cores -d 'Its cores: with several, QEMU gives a guest an interrupt twice now and then [default: one for each NUMA node]' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand doctor" -l host-numa -d 'Its NUMA nodes, among which memory and cores are split evenly' -r
complete -c mirrorball -n "__fish_mirrorball_using_subcommand doctor" -l host-npt -d 'Whether its KVM uses nested paging, or shadow page tables' -r -f -a "on\t''
off\t''"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand doctor" -l host-parallel -d 'Whether its cores are emulated in parallel: faster, but QEMU then fails now and then' -r -f -a "on\t''
off\t''"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand doctor" -l host-clock -d 'What its time is [default: what the experiment says, real]' -r -f -a "real\t'This machine\'s'
instructions\t'Instructions, at 2 ns each: the same whatever else this machine does; QEMU then fails now and then'"
complete -c mirrorball -n "__fish_mirrorball_using_subcommand doctor" -l fix -d 'Change what disturbs measurements and root can set: mappings of a process, huge pages, clock'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand doctor" -l restore -d 'Give back what --fix changed'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand doctor" -l json -d 'Print JSON, and nothing else, to standard output'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "run" -d 'Run an experiment, or all of a folder: guests, measurements, results'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "plan" -d 'Print what would be run, with the time and memory that it takes, and start nothing'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "init" -d 'Write an experiment file to begin with'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "show" -d 'Show an experiment file, or all of it with defaults and where each value came from'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "logs" -d 'Show why runs failed, with their consoles, events and outputs'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "samples" -d 'Print the time series of stored results, one JSON object in each line'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "list" -d 'List the experiments of a folder: purpose, and the time that each takes; or metrics, mechanisms, workloads, templates'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "schema" -d 'Print the JSON Schema of experiment files, for editors, or of what runs write, for scripts'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "completions" -d 'Print completions for a shell'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "man" -d 'Print the manual page, or write the pages of all commands to a folder'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "watch" -d 'Watch a run in progress: memory by VM, rates, the scanner; pause a VM, switch a mechanism'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "validate" -d 'Check experiment files and start nothing'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "image" -d 'Make the images of an experiment, of a folder or of a Linux guest, or list those there are'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "bench" -d 'Measure what the mechanisms cost, as ratios from one run'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "simulate" -d 'Try the memory policy on model guests (policy/models/): thousands of them for an hour in seconds; needs no KVM'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "report" -d 'Make one HTML file and figures of stored results; needs no KVM'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "check" -d 'Judge an experiment\'s claims from stored results; needs no KVM'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "compare" -d 'Say what changed beyond noise between two results, or two cells; needs no KVM'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "package" -d 'Pack a results folder with its report, recipes and digests into one archive'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "verify" -d 'Check a package: digests, and that every table follows from its runs; needs no KVM'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "doctor" -d 'Say what this host can do and what is in the way; restore KSM after a killed run'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and not __fish_seen_subcommand_from run plan init show logs samples list schema completions man watch validate image bench simulate report check compare package verify doctor help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "list" -d 'List the images in the cache'
complete -c mirrorball -n "__fish_mirrorball_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "linux" -d 'Make what a Linux guest boots from Debian packages, and print where it is'
