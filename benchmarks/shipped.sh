#!/usr/bin/env bash
# Everything that comes trained with the package, from FER2013 to the files: first the teacher, then its students.
#
#     benchmarks/shipped.sh path/to/fer2013.csv OUT [SEED]
#
# On two cores of an Intel Xeon with AMX, added up from the steps: the teacher three hours and a quarter, the students with
# their labels-only arms six hours and a half, and MicroExpNet besides. Every step goes on where it stopped when the script is run again.
set -euo pipefail
here=$(dirname "$0") data=$1 out=$2 seed=${3:-0}
"$here/teachers.sh" "$data" "$out/teacher" "$seed"
TEACHER=$out/teacher/fer2013_resnet10 "$here/shipped_students.sh" "$data" "$out/students" "$seed"
