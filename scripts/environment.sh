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
