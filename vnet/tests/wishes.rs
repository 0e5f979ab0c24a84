//! What receivers would rather have, as senders see it.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use mirrorball_vnet::*;

#[test]
fn a_sender_sees_what_the_station_that_it_sends_to_wants() {
    let network = Network::new("lan", &NetworkConfig::default());
    let attach = |number| {
        let config = PortConfig::station(Mac::numbered(number));
        network.attach(config, || {}).unwrap()
    };
    let (one, other) = (attach(1), attach(2));
    assert_eq!(network.least_run(one.mac()), u32::MAX, "bytes, at first");
    one.set_least_run(4);
    other.set_least_run(1);
    assert_eq!(network.least_run(one.mac()), 4);
    assert_eq!(network.least_run(other.mac()), 1);
    assert_eq!(network.least_run(Mac::numbered(3)), u32::MAX, "nobody");
    assert_eq!(network.least_run(Mac([0xff; 6])), 1, "everybody");
    let gone = one.mac();
    drop(one);
    assert_eq!(network.least_run(gone), u32::MAX);
    // Who comes to its place begins anew.
    assert_eq!(network.least_run(attach(1).mac()), u32::MAX);
}
