# The figures of bench.awk's JSON as a picture: each thing done by ublk, as a multiple of what the
# kernel's own does. jq -r -f tests/bench-svg.jq build/bench.json >tests/bench.svg
def figures: reduce .figures[] as $f ({}; .[$f.row][$f.workload] = $f.values[0]);
# rates: more is better; times: all the steps of a row, less is better
def rate($f; $ublk; $other; $work): if $f[$ublk][$work] and $f[$other][$work] then $f[$ublk][$work] / $f[$other][$work] else null end;
def time($f; $ublk; $other): if $f[$ublk] and $f[$other] then ([$f[$other][]] | add) / ([$f[$ublk][]] | add) else null end;
def groups: figures as $f | [
	["ublk file, beside loop, through the page cache",
		["read 4k, 64 at a time", rate($f; "file-ext4"; "loop-ext4"; "randread-4k-64")],
		["write 4k, 64 at a time", rate($f; "file-ext4"; "loop-ext4"; "randwrite-4k-64")],
		["read 4k, one at a time", rate($f; "file-ext4"; "loop-ext4"; "randread-4k-1")],
		["write 4k, one at a time", rate($f; "file-ext4"; "loop-ext4"; "randwrite-4k-1")],
		["read 128k", rate($f; "file-ext4"; "loop-ext4"; "read-128k-16")],
		["write 128k", rate($f; "file-ext4"; "loop-ext4"; "write-128k-16")],
		["write 128k, after 4k writes", rate($f; "after-file-ext4"; "after-loop-ext4"; "write-128k-16")],
		["write 4k, each with fsync", rate($f; "sync-file-ext4"; "sync-loop-ext4"; "randwrite-4k-1")],
		["write 4k, fsync after 64", rate($f; "sync-file-ext4"; "sync-loop-ext4"; "randwrite-4k-64")],
		["mkfs, untar, sync, read, rm", time($f; "work-file-ext4"; "work-loop-ext4")]],
	["ublk file --direct, beside loop --direct-io=on",
		["read 4k, 64 at a time", rate($f; "file-ext4-direct"; "loop-ext4-direct"; "randread-4k-64")],
		["write 4k, 64 at a time", rate($f; "file-ext4-direct"; "loop-ext4-direct"; "randwrite-4k-64")],
		["read 128k", rate($f; "file-ext4-direct"; "loop-ext4-direct"; "read-128k-16")]],
	["ublk file on tmpfs, beside loop on tmpfs",
		["read 4k, 64 at a time", rate($f; "file-tmpfs"; "loop-tmpfs"; "randread-4k-64")],
		["write 4k, 64 at a time", rate($f; "file-tmpfs"; "loop-tmpfs"; "randwrite-4k-64")],
		["write 128k", rate($f; "file-tmpfs"; "loop-tmpfs"; "write-128k-16")]],
	["ublk mem, beside brd",
		["read 4k, 64 at a time", rate($f; "mem"; "brd"; "randread-4k-64")],
		["read 128k", rate($f; "mem"; "brd"; "read-128k-16")],
		["mkfs, untar, sync, read, rm", time($f; "work-mem"; "work-brd")]]
	] | map([.[0]] + [.[1:][] | select(.[1])]) | map(select(length > 1));
def text($x; $y; $class; $s): "<text x=\"\($x)\" y=\"\($y)\" class=\"\($class)\">\($s)</text>";
def two: . * 100 | round | "\(. / 100 | floor).\(. % 100 + 100 | tostring[1:])";
def bar($y): (.[1] * 160 | if . > 400 then 400 else . end | round) as $w |
	text(210; $y + 11; "name"; .[0]),
	"<rect x=\"220\" y=\"\($y)\" width=\"\($w)\" height=\"14\" class=\"\(if .[1] < 0.995 then "less" else "more" end)\"/>",
	text(226 + $w; $y + 11; "figure"; .[1] | two);
(reduce groups[] as $g ({y: 34, out: []};
	.y as $top | .out += [text(20; $top; "head"; $g[0])] | .y += 8 |
	reduce $g[1:][] as $row (.; .y as $y | .out += [$row | bar($y)] | .y += 18) | .y += 26)) as $all |
"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"680\" height=\"\($all.y)\" viewBox=\"0 0 680 \($all.y)\">",
"<style>text { font: 12px sans-serif; fill: #333 } .head { font-weight: bold } .name { text-anchor: end } .more { fill: #2a7ab0 } .less { fill: #c98a2b } rect.paper { fill: #fff }</style>",
"<rect class=\"paper\" width=\"680\" height=\"\($all.y)\"/>",
"<line x1=\"380\" y1=\"40\" x2=\"380\" y2=\"\($all.y - 34)\" stroke=\"#999\" stroke-dasharray=\"3 3\"/>",
text(380; 16; "name"; "the kernel's own = 1"),
$all.out[],
"</svg>"
