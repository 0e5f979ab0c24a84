#!/bin/sh
# The first process of a guest: loads the kernel's modules, mounts the root, runs the job's commands
# and says what happens on the control channel, one line each (docs/linux-guests.md): a stream to the
# host, or the control console where there is none.
#
# Nothing here may end this shell: the kernel panics when its first process ends.

export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root
control=/dev/hvc0
job=/etc/mirrorball/job
root=

uptime() { read -r up rest </proc/uptime; }
say() { echo "mb $*" >&3; }

# Waits up to 10 s for a device: its file is there a moment before it can be opened. It is opened by
# another shell, since a redirection that fails would end this one.
appears() {
    tries=0
    until [ -e "$1" ] && (: <>"$1") 2>/dev/null; do
        [ $tries -ge 200 ] && return 1
        tries=$((tries + 1))
        sleep 0.05
    done
}

# Reads lines of the control channel up to this one. Fails when there is no more to read.
await() {
    while read -r line <&3; do
        [ "${line%"$return"}" = "$1" ] && return 0
    done
    return 1
}

off() {
    kill -9 -1
    sync
    if [ "$root" ]; then
        for below in dev/pts dev/shm dev proc sys run tmp; do
            umount "$root/$below" 2>/dev/null || umount -l "$root/$below"
        done
        umount "$root" || mount -o remount,ro "$root"
    fi
    poweroff -f
    # The machine has no way to power off.
    while :; do sleep 3600; done
}

fail() {
    echo "init: $*"
    [ "$connected" ] && say "fail $*"
    off
}

mount_root() {
    appears /dev/vda || fail "there is no disk /dev/vda for the root"
    mkdir -p /root-fs
    mount -t ext4 -o rw /dev/vda /root-fs || fail "/dev/vda can't be mounted as ext4"
    root=/root-fs
    [ -x $root/bin/sh ] || fail "the root has no /bin/sh"
    mkdir -p $root/proc $root/sys $root/dev $root/run $root/tmp
    mount -t proc proc $root/proc
    mount -t sysfs sysfs $root/sys
    mount --bind /dev $root/dev
    mount --bind /dev/pts $root/dev/pts
    mount --bind /dev/shm $root/dev/shm
    mount -t tmpfs -o mode=755 run $root/run
    mount -t tmpfs -o mode=1777 tmp $root/tmp
}

# Runs command $1 of the job in place of this (sub)shell.
run() {
    script=$(cat "$job/$1")
    set --
    [ -f "$job/environment" ] && . "$job/environment"
    cd /
    if [ "$root" ]; then
        exec env "$@" chroot "$root" /bin/sh -c "$script"
    fi
    exec env "$@" /bin/sh -c "$script"
}

# What command $1 writes goes to the control channel, up to 64 KiB of it.
relay() {
    { head -c 65536; cat >/dev/null; } | base64 -w 64 | sed "s/^/mb out $1 /" >&3
}

# All that must be there before the host can be connected to.
set_up() {
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t devtmpfs devtmpfs /dev
    mkdir -p /dev/pts /dev/shm /run /root /tmp
    mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
    mount -t tmpfs -o mode=1777 shm /dev/shm
    for module in /modules/*.ko; do
        [ -f "$module" ] || continue
        insmod "$module" || echo "init: $module could not be loaded"
    done
    for link in /sys/class/net/eth*; do
        [ -e "$link" ] && address "${link##*/}"
    done
}

# Gives a network device the address 10.77.X.Y/16, X and Y the last bytes of its Ethernet address: guests
# that are given none are numbered there.
address() {
    IFS=: read -r _ _ _ _ high low <"/sys/class/net/$1/address"
    ip link set lo up
    ip addr add "10.77.$((0x$high)).$((0x$low))/16" brd + dev "$1"
    ip link set "$1" up
}

# This is run twice: by the kernel, and by what it becomes to connect.
if [ "$1" != "--connected" ]; then
    set_up
    exec /bin/connect /init --connected
fi

return=$(printf '\r')
connected=
if [ ! -e /proc/self/fd/3 ]; then
    appears $control || fail "there is neither a stream to the host nor a control console ($control)"
    exec 3<>$control
    stty raw -echo <&3
fi
connected=1
[ -f /etc/mirrorball/root ] && mount_root

uptime
say "ready $up"
await go || off
number=0
while [ -f "$job/$number" ]; do
    uptime
    say "begin $number $up"
    # As if killed, unless it says otherwise.
    echo 137 >/run/status
    {
        # This shell's own word on how the command died is not part of its output.
        (run "$number" 2>&1)
        echo $? >/run/status
    } 2>/dev/null </dev/null 3>&- | relay "$number"
    uptime
    read -r status </run/status
    say "end $number $status $up"
    number=$((number + 1))
done
uptime
say "done $up"
await stop
off
