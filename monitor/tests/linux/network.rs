//! Linux guests on a virtual network: their own drivers and protocols, over our switch.

use super::talk::{LONG, able, boot, config, digits, exit_code, output, until};
use mirrorball_abi::{Phase, Workload, WorkloadKind};
use mirrorball_monitor::{Boot, StopCause, Vm, VmConfig, VmNetwork};
use mirrorball_virtio::{NetConfig, Transfer};
use mirrorball_vnet::{Mac, Network, NetworkConfig, PortConfig};
use std::sync::Arc;

fn place(network: &Arc<Network>, number: u32, mtu: u16) -> VmNetwork {
    VmNetwork {
        network: Arc::clone(network),
        config: NetConfig {
            port: PortConfig::station(Mac::numbered(number)),
            mtu,
            transfer: Transfer::Cost,
            pairs: 1,
        },
    }
}

fn works(vm: &Vm) -> Vec<String> {
    vm.control_write("go");
    until(vm, "mb done")
}

#[test]
fn two_kernels_ping_each_other_and_transfer_a_file() {
    let Some((machine, folders)) = able("a network of Linux guests") else {
        return;
    };
    let network = Network::new("lan", &NetworkConfig::default());
    let serve = "seq 1 300000 >/tmp/numbers; httpd -p 80 -h /tmp; ip -o addr show dev eth0";
    let fetch = "wget -q -O - http://10.77.0.1/numbers | sha256sum";
    let commands: [&[&str]; 2] = [&[serve], &["ping -c 3 -s 3000 10.77.0.1", fetch]];
    // Each its own kernel, where there are two.
    let folders = folders.iter().cycle();
    let vms: Vec<_> = (1..)
        .zip(commands.into_iter().zip(folders))
        .map(|(number, (commands, folder))| {
            let mut config = config(&format!("guest{number}"), 1, boot(folder, commands));
            config.networks = vec![place(&network, number, 1500)];
            let vm = machine.create_vm(&config).unwrap();
            vm.start().unwrap();
            until(&vm, "mb ready");
            vm
        })
        .collect();
    let [server, client] = &vms[..] else {
        unreachable!()
    };
    let told = output(&works(server), 0);
    assert!(told.contains("10.77.0.1/16"), "{told}");
    let lines = works(client);
    assert_eq!(exit_code(&lines, 0), Some("0"), "{}", output(&lines, 0));
    let numbers: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(
        output(&lines, 1),
        format!("{}  -\n", digits(numbers.as_bytes()))
    );
    let stats = server.nets()[0].stats();
    // Whole connections' worth of segments at a time, though each is short.
    assert!(stats.port.sent_bytes > 1500 * stats.port.sent, "{stats:?}");
    let lost = (stats.malformed, stats.unfit, stats.port.full);
    assert_eq!(lost, (0, 0, 0), "{stats:?}");
    for vm in [server, client] {
        vm.control_write("stop");
        assert_eq!(vm.wait_stopped(LONG), Ok(StopCause::PoweredOff));
    }
}

/// One command of a thin guest's, to its end.
fn echo(vm: &Vm, params: &[u64]) {
    let mut workload = Workload {
        kind: WorkloadKind::Echo as u32,
        seed: 7,
        ..Workload::default()
    };
    workload.params[..params.len()].copy_from_slice(params);
    let command = vm.command(&workload);
    vm.wait_until(Phase::Done, command, LONG).unwrap();
    let status = vm.status();
    assert_eq!((status.outcome, status.mismatches), (0, 0), "{status:?}");
}

#[test]
fn linux_and_thin_guests_connect_to_each_other() {
    let Some((machine, folders)) = able("Linux and thin guests on one network") else {
        return;
    };
    let network = Network::new("lan", &NetworkConfig::default());
    let ask = "ping -c 2 10.77.0.2 && seq 1 30000 | nc 10.77.0.2 7 | sha256sum";
    let commands = [ask, "nc -ll -p 7 -e cat >/dev/null 2>&1 &"];
    let mut linux = config("linux", 1, boot(&folders[0], &commands));
    linux.networks = vec![place(&network, 1, u16::MAX)];
    let thin = VmConfig {
        networks: vec![place(&network, 2, u16::MAX)],
        memory: 32 << 20,
        boot: Boot::Splash,
        ..config("thin", 1, boot(&folders[0], &[]))
    };
    let [linux, thin] = [linux, thin].map(|config| {
        let vm = machine.create_vm(&config).unwrap();
        vm.start().unwrap();
        vm
    });
    until(&linux, "mb ready");
    // The thin guest answers until one connection has ended.
    let lines = std::thread::scope(|scope| {
        scope.spawn(|| echo(&thin, &[1, 1]));
        works(&linux)
    });
    let told = output(&lines, 0);
    let numbers: String = (1..=30_000).map(|number| format!("{number}\n")).collect();
    let sum = digits(numbers.as_bytes());
    assert!(
        told.contains("2 packets received") && told.contains(&sum),
        "{told}"
    );
    // And the other way round.
    echo(&thin, &[2, 1, 1, 300_000]);
    assert_eq!(thin.status().bytes, 300_000);
    linux.control_write("stop");
    assert_eq!(linux.wait_stopped(LONG), Ok(StopCause::PoweredOff));
}
