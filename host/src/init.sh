#!/bin/busybox sh
# The first process of the emulated host: loads KVM, lays a layer that forgets over the outer
# machine's files, runs one command and takes the machine down. What it and the kernel say goes to
# the serial console, which is shown only when something is wrong.

PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /lower /scratch /new
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
. /host/settings

fail() {
    echo "mirrorball: $1"
    poweroff -f
}

# -- KVM, and what it needs ------------------------------------------------------------------------
for module in /modules/*.ko; do
    parameters=
    case $module in
        # After a guest's HLT KVM would wait for 0.2 ms in a loop of PAUSE before others may have the core.
        # Each PAUSE takes QEMU microseconds, and by a clock that counts instructions they are 8 ns.
        *-kvm.ko) parameters="halt_poll_ns=0" ;;
        *-kvm[-_]amd.ko) parameters="npt=$nested_paging nested=0" ;;
    esac
    # A driver of a device that is not there refuses to be loaded; what is needed is checked below.
    insmod "$module" $parameters || echo "mirrorball: $module was not loaded"
done
[ -c /dev/kvm ] || fail 'there is no /dev/kvm'
case $nested_paging$(cat /sys/module/kvm_amd/parameters/npt) in
    1Y | 0N) ;;
    *) fail 'KVM does not page as it was told to' ;;
esac
[ "$(cat /sys/module/kvm/parameters/halt_poll_ns)" = 0 ] || fail 'KVM would wait in a loop'
echo 1048576 >/proc/sys/vm/max_map_count
hostname mirrorball-emulated

# -- Files -----------------------------------------------------------------------------------------
p9=trans=virtio,version=9p2000.L,msize=512000
mount -t 9p -o "$p9,ro,cache=loose,noxattr" root /lower || fail 'the root can not be mounted'
mount -t tmpfs -o mode=0755 scratch /scratch || fail 'there is no scratch memory'
mkdir -p /scratch/upper/.mirrorball/tmp /scratch/work
cp /bin/busybox /host/job /scratch/upper/.mirrorball/
mount -t overlay -o lowerdir=/lower,upperdir=/scratch/upper,workdir=/scratch/work overlay /new ||
    fail 'the layer over the root can not be mounted'
mount -t proc proc /new/proc
mount -t sysfs sysfs /new/sys
mount -o bind /dev /new/dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs -o mode=1777 shm /new/dev/shm
mount -t devpts devpts /new/dev/pts

# Not cached: what the command has written is outside, whatever happens to this machine.
share() {
    mkdir -p "/new$2" && mount -t 9p -o "$p9,cache=none,noxattr" "$1" "/new$2" ||
        fail "$2 can not be mounted"
}
. /host/shares

# -- Ports, by the names that QEMU gave them ------------------------------------------------------
port() {
    tries=100
    while [ $tries -gt 0 ]; do
        for folder in /sys/class/virtio-ports/*; do
            if [ "$(cat "$folder/name" 2>/dev/null)" = "$1" ]; then
                device=/dev/${folder##*/}
                return
            fi
        done
        tries=$((tries - 1))
        sleep 0.1
    done
    fail "there is no port $1"
}
port control
exec 3<>"$device"
port stdout
exec 4<>"${stdout_terminal:+/dev/}${stdout_terminal:-$device}"
port stderr
exec 5<>"${stderr_terminal:+/dev/}${stderr_terminal:-$device}"
[ -z "$stdout_terminal" ] || stty raw -echo $stdout_size <&4
[ -z "$stderr_terminal" ] || stty raw -echo $stderr_size <&5

# -- The command -----------------------------------------------------------------------------------
# Says it, once, when little memory is left: a machine whose programs no longer fit reads them again
# and again, and seems to hang long before the kernel ends a process.
watch_memory() {
    while read -r name kib unit; do
        [ "$name" = MemAvailable: ] && break
    done </proc/meminfo
    [ "$kib" -ge "$little_memory" ] && return
    little_memory=0
    echo "memory $((kib / 1024))" >&3
}
little_memory=98304

# Says how long the machine has been up where it counts instructions: that may hardly go on.
tell_time() {
    IFS=. read -r seconds rest </proc/uptime
    echo "uptime $seconds" >&3
}

# Words from outside: a signal for the command, or that all was read; empty ones are only to wake this
# machine, four times a second. Without an outside, no inside.
{
    words=0
    while read -r word argument <&3; do
        case $word in
            signal) kill "-$argument" "$(cat /new/.mirrorball/pid)" ;;
            off) break ;;
        esac
        words=$((words + 1))
        [ $((words % 16)) = 0 ] || continue
        watch_memory
        [ "$by_instructions" = 0 ] || tell_time
    done
    poweroff -f
} 4>&- 5>&- &

chroot /new /.mirrorball/busybox sh /.mirrorball/job </dev/null >&4 2>&5 4>&- 5>&-
code=$?
printf %s "$mark" >&4
printf %s "$mark" >&5
sync
echo "exit $code" >&3
wait
poweroff -f
