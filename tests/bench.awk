# The figures of bench.sh, lines "bench: ROW WORKLOAD FIGURE", as a table with
# ratios and bars, and as JSON in the file that -v json= names. With -v smp=1
# only the ratios to loop, of several rounds: the middle one and the range.
BEGIN {
	split("randread-4k-64 randwrite-4k-64 randread-4k-1 randwrite-4k-1 read-128k-16 write-128k-16", works)
	group("RAM disks", "brd mem null kublk")
	group("A file in memory", "loop-tmpfs file-tmpfs")
	group("A file on ext4, through the page cache", "loop-ext4 file-ext4 file-ext4-zc")
	group("The same, nothing written back meanwhile, no autogroups", "quiet-loop-ext4 quiet-file-ext4")
	group("The same, 4k writes to all of it before", "after-loop-ext4 after-file-ext4")
	group("A file on ext4, direct", "loop-ext4-direct file-ext4-direct file-ext4-direct-copy")
	group("null_blk, direct", "loop-null_blk file-null_blk file-null_blk-copy")
	label["brd"] = "brd"; label["loop-tmpfs"] = "loop on tmpfs"; label["file-tmpfs"] = "ublk file on tmpfs"; label["mem"] = "ublk mem"
	label["quiet-loop-ext4"] = label["after-loop-ext4"] = "loop"; label["quiet-file-ext4"] = label["after-file-ext4"] = "ublk file"
	label["null"] = "README's null backend"; label["kublk"] = "kublk null"
	label["loop-ext4"] = "loop"; label["file-ext4"] = "ublk file"; label["file-ext4-zc"] = "ublk file --zero-copy=on"
	label["loop-ext4-direct"] = label["loop-null_blk"] = "loop --direct-io=on"
	label["file-ext4-direct"] = label["file-null_blk"] = "ublk file --direct"
	label["file-ext4-direct-copy"] = label["file-null_blk-copy"] = "the same, --zero-copy=off"
	label["mem-q2"] = "ublk mem --queues=2"; label["mem-q2-affinity"] = "the same, --cpu-affinity"
	ratio("mem null"); ratio("mem kublk"); ratio("mem brd"); ratio("file-tmpfs loop-tmpfs")
	ratio("file-ext4 loop-ext4"); ratio("quiet-file-ext4 quiet-loop-ext4"); ratio("after-file-ext4 after-loop-ext4"); ratio("file-ext4-direct loop-ext4-direct"); ratio("file-null_blk loop-null_blk")
	split("randwrite-4k-64 randwrite-4k-1 randrw-4k-16 write-128k-16 randwrite-4k-16", syncs)
	synced["randwrite-4k-64"] = "randwrite 4k qd64, fsync after 64"; synced["randwrite-4k-1"] = "randwrite 4k qd1, fsync after each"
	synced["randrw-4k-16"] = "70% reads 4k qd16, fsync after 64"; synced["write-128k-16"] = "write 128k qd16, fsync after 16"
	synced["randwrite-4k-16"] = "randwrite 4k qd16, fsync after 16"
	split("mkfs mount untar sync read rm trim umount", steps)
	split("brd mem loop-ext4 file-ext4 loop-sparse file-sparse", workers)
	worker["brd"] = "brd"; worker["mem"] = "ublk mem"; worker["loop-ext4"] = "loop"; worker["file-ext4"] = "ublk file"
	worker["loop-sparse"] = "loop, sparse"; worker["file-sparse"] = "ublk file, sparse"
	split("losetup mem musl file driver nothing", lives)
	life["losetup"] = "losetup"; life["mem"] = "ublk mem -d"; life["musl"] = "the same, built with musl"; life["file"] = "ublk file -d"
	life["driver"] = "ublk mem -d; STOP_DEV and DEL_DEV alone"; life["nothing"] = "to start ublk, which does nothing"
	split("untouched-randread-4k-64 untouched-randread-4k-1 untouched-read-128k-16 " \
		"changed-randread-4k-64 changed-randread-4k-1 changed-read-128k-16 " \
		"first-randwrite-4k-64 first-randwrite-4k-1 first-write-128k-16 " \
		"again-randwrite-4k-64 again-randwrite-4k-1 again-write-128k-16", snaps)
	state["untouched"] = "untouched blocks"; state["changed"] = "changed blocks"
	state["first"] = "first of a block"; state["again"] = "second of a block"
}
function group(title, rows) { groups[++nr_groups] = title; members[nr_groups] = rows }
function ratio(pair) { ratios[++nr_ratios] = pair }
function bar(x,   s, i, n) {
	n = int(x * 20 + 0.5)
	for (i = 1; i <= n && i <= 44; i++) s = s (i == 20 ? "|" : "#")
	for (; i <= 20; i++) s = s (i == 20 ? "|" : " ")
	return s (n > 44 ? ">" : "")
}
function words(work,   a) { split(work, a, "-"); return sprintf("%s %s qd%s", a[1], a[2], a[3]) }

$1 == "bench:" && $2 == "kernel" { kernel = $4; next }
$1 == "bench:" {
	if (!($2 in seen)) { seen[$2] = 1; order[++nr_rows] = $2 }
	figure[$2, $3] = $4
	round[$2, $3, ++rounds[$2, $3]] = $4
}

function table(   g, i, n, w, row, part, any, top, under) {
	printf "Linux %s; thousand I/Os a second of a processor that takes a nanosecond an instruction\n\n", kernel
	printf "%-30s", ""
	for (i = 1; i in works; i++) { split(works[i], part, "-"); printf " %10s", part[1] }
	printf "\n%-30s", ""
	for (i = 1; i in works; i++) { split(works[i], part, "-"); printf " %10s", part[2] " qd" part[3] }
	print ""
	for (g = 1; g <= nr_groups; g++) {
		n = split(members[g], row, " "); any = 0
		for (i = 1; i <= n; i++) if (row[i] in seen) {
			if (!any++) print groups[g]
			printf "  %-28s", label[row[i]]
			for (w = 1; w in works; w++) printf " %10.1f", figure[row[i], works[w]] / 1000
			print ""
		}
	}
	print ""
	for (g = 1; g <= nr_ratios; g++) {
		split(ratios[g], row, " ")
		if (!(row[1] in seen) || !(row[2] in seen)) continue
		printf "%s / %s%s\n", label[row[1]], label[row[2]], row[1] ~ /null_blk/ ? ", null_blk" : row[1] ~ /quiet/ ? ", ext4, nothing written back" : row[1] ~ /after/ ? ", ext4, 4k writes before" : row[1] ~ /ext4/ ? ", ext4" : ""
		for (w = 1; w in works; w++) {
			top = figure[row[1], works[w]]
			under = figure[row[2], works[w]]
			if (under) printf "  %-18s %5.2f %s\n", words(works[w]), top / under, bar(top / under)
		}
	}
	if ("sync-file-ext4" in seen) flushes()
	if ("work-mem" in seen || "work-file-ext4" in seen) jobs()
	if ("life-mem" in seen) existence()
	if ("snap-ext4" in seen || "snap-brd" in seen) snapshots()
	if ("mem-64M" in seen) {
		w = "randread-4k-64"
		printf "size: %s, 64 MiB %.1f; the first and the last 64 MiB of 1 TiB %.1f, %.1f\n", words(w),
			figure["mem-64M", w] / 1000, figure["mem-1T", w] / 1000, figure["mem-1T-end", w] / 1000
	}
	if ("idle" in seen)
		printf "an idle server in 60 s: %d ticks of CPU time, %d times woken up\n", figure["idle", "ticks"], figure["idle", "wakeups"]
}

# What is synced, by the thousand a second
function flushes(   w, l, u) {
	printf "\n%-40s %9s %9s %7s\n", "A file on ext4, with fsync", "loop", "ublk file", "ratio"
	for (w = 1; w in syncs; w++) {
		l = figure["sync-loop-ext4", syncs[w]]; u = figure["sync-file-ext4", syncs[w]]
		printf "  %-38s %9.1f %9.1f %7.2f\n", synced[syncs[w]], l / 1000, u / 1000, l ? u / l : 0
	}
}
# A filesystem from mkfs to umount, in milliseconds
function jobs(   i, s, sum) {
	printf "\n%-19s", "Milliseconds"
	for (s = 1; s in steps; s++) printf " %6s", steps[s]
	print "  in all"
	for (i = 1; i in workers; i++) {
		if (!(("work-" workers[i]) in seen)) continue
		printf "  %-17s", worker[workers[i]]
		sum = 0
		for (s = 1; s in steps; s++) { sum += figure["work-" workers[i], steps[s]]; printf " %6.0f", figure["work-" workers[i], steps[s]] / 1000 }
		printf " %7.0f\n", sum / 1000
	}
}
function existence(   i) {
	printf "\n%-40s %9s %9s\n", "Milliseconds", "to be", "to go"
	for (i = 1; i in lives; i++)
		printf "  %-38s %9.1f %9.1f\n", life[lives[i]], figure["life-" lives[i], "add"] / 1000, figure["life-" lives[i], "stop"] / 1000
	print ""
}

# ublk file --snapshot beside dm-snapshot, a line for each workload
function snapshots(   s, w, part) {
	printf "\n%-38s %32s %32s\n%-38s", "A snapshot", "of a file on ext4 (dm: loop)", "of brd", ""
	for (s = 1; s <= 2; s++) printf " %16s %7s %7s", "dm-snapshot", "ublk", "ratio"
	print ""
	for (w = 1; w in snaps; w++) {
		split(snaps[w], part, "-")
		printf "  %-18s%-18s", words(part[2] "-" part[3] "-" part[4]), state[part[1]]
		snapshot("dm-snap-ext4", "snap-ext4", snaps[w])
		snapshot("dm-snap-brd", "snap-brd", snaps[w])
		print ""
	}
	print ""
}
function snapshot(dm, ublk, work) {
	if (!((dm, work) in figure) || !((ublk, work) in figure)) printf " %16s %7s %7s", "-", "-", "-"
	else printf " %16.1f %7.1f %7.2f", figure[dm, work] / 1000, figure[ublk, work] / 1000, figure[ublk, work] / figure[dm, work]
}

# The ratios to loop-tmpfs of each round, sorted into r[1..]
function sorted(row, work, r,   n, i, j, t) {
	n = rounds[row, work] < rounds["loop-tmpfs", work] ? rounds[row, work] : rounds["loop-tmpfs", work]
	for (i = 1; i <= n; i++) r[i] = round[row, work, i] / round["loop-tmpfs", work, i]
	for (i = 2; i <= n; i++) for (j = i; j > 1 && r[j - 1] > r[j]; j--) { t = r[j]; r[j] = r[j - 1]; r[j - 1] = t }
	return n
}
function table_smp(   i, w, n, r, works_smp) {
	split("randread-4k-64 randwrite-4k-64 randread-4k-1 read-128k-16", works_smp)
	printf "Linux %s, %s; I/Os a second of two fio jobs, relative to loop on tmpfs: the middle of %d rounds, and the range\n\n", kernel,
		cpus == 1 ? "one processor" : cpus " processors", rounds["loop-tmpfs", works_smp[1]]
	printf "%-26s", ""
	for (w = 1; w in works_smp; w++) printf " %18s", words(works_smp[w])
	print ""
	for (i = 1; i <= nr_rows; i++) {
		printf "%-26s", label[order[i]]
		for (w = 1; w in works_smp; w++) {
			n = sorted(order[i], works_smp[w], r)
			printf " %18s", n ? sprintf("%.2f (%.2f-%.2f)", r[int((n + 1) / 2)], r[1], r[n]) : "-"
		}
		print ""
	}
}
END {
	if (!nr_rows) exit 1
	if (smp) table_smp(); else table()
	if (!json) exit
	printf "{\"kernel\": \"%s\", \"figures\": [\n", kernel >json
	for (i = 1; i <= nr_rows; i++) {
		for (key in rounds) {
			split(key, part, SUBSEP)
			if (part[1] != order[i]) continue
			printf "%s  {\"row\": \"%s\", \"workload\": \"%s\", \"values\": [", sep, part[1], part[2] >json
			for (n = 1; n <= rounds[key]; n++) printf "%s%s", (n == 1 ? "" : ", "), round[part[1], part[2], n] >json
			printf "]}" >json
			sep = ",\n"
		}
	}
	print "\n]}" >json
}
