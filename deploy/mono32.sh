#!/bin/sh
# Puts a Mono of 32 bits, and what compiles a library for it, into a directory, from
# Debian's i386 packages; nothing of it is installed. With it the tests run the agent
# for Windows hosts as a PowerShell of 32 bits would:
#
#   deploy/mono32.sh DIR && RDPBROKER_MONO32=DIR go test ./sessions/winagent
#
# Needs a Debian of 64 bits with mono-runtime, mono-mcs and gcc (install-test-peers.sh).
set -eu
dir=${1:?a directory}
mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial" "$dir/root"
dir=$(cd "$dir" && pwd)
: >"$dir/apt/status"
apt() {
	apt-get -qq -o Dir::State::lists="$dir/apt/lists" -o Dir::Cache="$dir/apt/cache" -o Dir::State::status="$dir/apt/status" \
		-o APT::Architecture=i386 -o APT::Architectures::=i386 -o APT::Sandbox::User=root "$@"
}
apt update || true # other sources of this machine may have nothing for i386
gcc=$(gcc -dumpversion)
apt -y -d --no-install-recommends install mono-runtime-sgen libc6-dev "libgcc-$gcc-dev"
(cd "$dir/apt/cache/archives" && apt download mono-runtime-common libkrb5-3)
for deb in "$dir"/apt/cache/archives/*.deb; do
	dpkg -x "$deb" "$dir/root"
done
root=$dir/root
mkdir -p "$dir/bin"
# The class library is the same for all machines, and that of mono-runtime.
sed "s#\$mono_libdir#$root/usr/lib#" /etc/mono/config >"$dir/mono.config"
cat >"$dir/bin/mono" <<EOF
#!/bin/sh
export MONO_PATH=/usr/lib/mono/4.5 MONO_CONFIG=$dir/mono.config
exec $root/lib/ld-linux.so.2 --library-path $root/lib/i386-linux-gnu:$root/usr/lib/i386-linux-gnu $root/usr/bin/mono-sgen "\$@"
EOF
cat >"$dir/bin/gcc" <<EOF
#!/bin/sh
exec gcc -m32 --sysroot=$root -isystem $root/usr/include -isystem $root/usr/include/i386-linux-gnu \\
	-B$root/usr/lib/i386-linux-gnu -B$root/usr/lib/gcc/i686-linux-gnu/$gcc -L$root/usr/lib/gcc/i686-linux-gnu/$gcc "\$@"
EOF
chmod 755 "$dir/bin/mono" "$dir/bin/gcc"
"$dir/bin/mono" --version | sed q
