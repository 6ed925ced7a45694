# Sourced by the other scripts: find a Python, make a virtual environment with it.

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11 or newer is needed; set PYTHON to its path." >&2
    return 1
}

# Debian and Ubuntu ship Python without venv.
install_system_packages() {
    local sudo=""
    if [ "$(id -u)" -ne 0 ]; then sudo="sudo"; fi
    if ! command -v apt-get >/dev/null || { [ -n "$sudo" ] && ! command -v sudo >/dev/null; }; then
        echo "Please install these first: $*" >&2
        return 1
    fi
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# What Qt loads of a Linux system, and the Debian package of each.
QT_LIBRARIES="
    libEGL.so.1:libegl1 libGL.so.1:libgl1 libX11-xcb.so.1:libx11-xcb1
    libdbus-1.so.3:libdbus-1-3 libfontconfig.so.1:libfontconfig1
    libgthread-2.0.so.0:libglib2.0-0 libxcb-cursor.so.0:libxcb-cursor0
    libxcb-icccm.so.4:libxcb-icccm4 libxcb-keysyms.so.1:libxcb-keysyms1
    libxcb-randr.so.0:libxcb-randr0 libxcb-shape.so.0:libxcb-shape0
    libxcb-xfixes.so.0:libxcb-xfixes0 libxkbcommon-x11.so.0:libxkbcommon-x11-0
"

# find_screen: install what Qt needs; sets SCREEN to what goes before a command that
# needs a screen: nothing where there is one.
find_screen() {
    local known pair missing=""
    SCREEN=""
    if [ "$(uname)" != "Linux" ]; then return; fi
    known="$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p)"
    for pair in $QT_LIBRARIES; do
        case "$known" in
            *"${pair%%:*}"*) ;;
            *) missing="$missing ${pair#*:}" ;;
        esac
    done
    if [ -z "${DISPLAY:-}" ]; then
        SCREEN="xvfb-run -a"
        if ! command -v xvfb-run >/dev/null; then missing="$missing xvfb xauth"; fi
    fi
    # shellcheck disable=SC2086 # several words
    if [ -n "$missing" ]; then install_system_packages $missing; fi
}

# make_environment FOLDER: create the environment if need be; sets PIP.
make_environment() {
    local folder="$1" python version
    python="$(find_python)"
    version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        install_system_packages "python$version-venv"
    if [ ! -x "$folder/bin/pip" ]; then "$python" -m venv "$folder"; fi
    PIP="$folder/bin/pip"
    # The version is read from git, if it is there, which mistrusts a checkout that
    # another user owns.
    export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0="$PWD"
}
