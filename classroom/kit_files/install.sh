#!/bin/sh
# Set up the course from this folder, without a network: sh install.sh
here=$(cd "$(dirname "$0")" && pwd)
for python in python3 python3.13 python3.12 python3.11; do
    # the first Python that the kit has packages for
    if command -v "$python" >/dev/null 2>&1 && "$python" -c '
import json, sys
version = "-{}.{}".format(*sys.version_info[:2])
kit = json.load(open(sys.argv[1] + "/kit.json"))
sys.exit(not any(name.endswith(version) for name in kit["targets"]))' "$here" 2>/dev/null; then
        exec "$python" "$here/install_kit.py" "$here" "$@"
    fi
done
echo "error: no Python that this kit has packages for (README.txt says which) was found." >&2
exit 1
