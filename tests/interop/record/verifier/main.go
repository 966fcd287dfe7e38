// An auditor who has nothing of amlgate: the Go checksum database's own code reads the log's files,
// and torchwood, written for witnesses and proofs of C2SP, reads what witnesses vouch for.
//
//	verifier inclusion KEYS PROOF          prints the record
//	verifier consistency KEYS HEAD PROOF   prints both sizes
//	verifier tiles KEYS DIRECTORY          prints the size and every record
//	verifier witnessed KEYS WITNESSES PROOF  all of whom must vouch; prints the record
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "verifier:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "inclusion":
		return inclusion(args[1], args[2])
	case len(args) == 4 && args[0] == "consistency":
		return consistency(args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "tiles":
		return tiles(args[1], args[2])
	case len(args) == 4 && args[0] == "witnessed":
		return witnessed(args[1], args[2], args[3])
	}
	return fmt.Errorf("unknown arguments %q", args)
}

// checkpoint opens a signed note under the keys of the file and reads the tree in it.
func checkpoint(keys string, text []byte) (tlog.Tree, error) {
	lines, err := os.ReadFile(keys)
	if err != nil {
		return tlog.Tree{}, err
	}
	var verifiers []note.Verifier
	for line := range strings.Lines(string(lines)) {
		verifier, err := note.NewVerifier(strings.TrimSpace(line))
		if err != nil {
			return tlog.Tree{}, err
		}
		verifiers = append(verifiers, verifier)
	}
	opened, err := note.Open(text, note.VerifierList(verifiers...))
	if err != nil {
		return tlog.Tree{}, err
	}
	body := strings.Split(opened.Text, "\n")
	if len(body) < 4 || body[0] != verifiers[0].Name() {
		return tlog.Tree{}, fmt.Errorf("not a checkpoint: %q", opened.Text)
	}
	size, err := strconv.ParseInt(body[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(body[2])
	return tlog.Tree{N: size, Hash: root}, err
}

// proof splits a text of lines, an empty line and a checkpoint.
func proof(file string) (lines []string, head []byte, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	before, after, found := bytes.Cut(text, []byte("\n\n"))
	if !found {
		return nil, nil, fmt.Errorf("no checkpoint")
	}
	return strings.Split(string(before), "\n"), after, nil
}

func hashes(lines []string) ([]tlog.Hash, error) {
	var path []tlog.Hash
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return nil, err
		}
		path = append(path, hash)
	}
	return path, nil
}

func inclusion(keys, file string) error {
	lines, head, err := proof(file)
	if err != nil {
		return err
	}
	if len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return fmt.Errorf("not a proof: %q", lines[0])
	}
	extra, found := strings.CutPrefix(lines[1], "extra ")
	number, also := strings.CutPrefix(lines[2], "index ")
	if !found || !also {
		return fmt.Errorf("no record or no index")
	}
	record, err := base64.StdEncoding.Strict().DecodeString(extra)
	if err != nil {
		return err
	}
	index, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return err
	}
	path, err := hashes(lines[3:])
	if err != nil {
		return err
	}
	tree, err := checkpoint(keys, head)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(path, tree.N, tree.Hash, index, tlog.RecordHash(record)); err != nil {
		return err
	}
	fmt.Printf("%s\n", record)
	return nil
}

// lines reads the lines of a file.
func lines(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	return strings.Fields(string(text)), err
}

func witnessed(keys, witnesses, file string) error {
	logs, err := lines(keys)
	if err != nil {
		return err
	}
	log, err := note.NewVerifier(logs[len(logs)-1])
	if err != nil {
		return err
	}
	policies := []torchwood.Policy{torchwood.OriginPolicy(log.Name()), torchwood.SingleVerifierPolicy(log)}
	known, err := lines(witnesses)
	if err != nil {
		return err
	}
	for _, key := range known {
		witness, err := torchwood.NewCosignatureVerifier(key)
		if err != nil {
			return err
		}
		policies = append(policies, torchwood.SingleVerifierPolicy(witness))
	}
	proof, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	record, err := torchwood.ProofExtraData(proof)
	if err != nil {
		return err
	}
	policy := torchwood.ThresholdPolicy(len(policies), policies...)
	if err := torchwood.VerifyProof(policy, tlog.RecordHash(record), proof); err != nil {
		return err
	}
	fmt.Printf("%s\n", record)
	return nil
}

func consistency(keys, kept, file string) error {
	text, err := os.ReadFile(kept)
	if err != nil {
		return err
	}
	old, err := checkpoint(keys, text)
	if err != nil {
		return err
	}
	lines, head, err := proof(file)
	if err != nil {
		return err
	}
	if lines[0] != fmt.Sprintf("old %d", old.N) {
		return fmt.Errorf("%q is not about the head of %d", lines[0], old.N)
	}
	path, err := hashes(lines[1:])
	if err != nil {
		return err
	}
	tree, err := checkpoint(keys, head)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(path, tree.N, tree.Hash, old.N, old.Hash); err != nil {
		return err
	}
	fmt.Println(old.N, tree.N)
	return nil
}

// layout reads tiles as C2SP tlog-tiles lays them out.
type layout string

func (layout) Height() int { return 8 }

func (directory layout) path(tile tlog.Tile) string {
	path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
	return filepath.Join(string(directory), strings.Replace(path, "tile/data/", "tile/entries/", 1))
}

func (directory layout) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, err := os.ReadFile(directory.path(tile))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func (layout) SaveTiles([]tlog.Tile, [][]byte) {}

func tiles(keys, directory string) error {
	text, err := os.ReadFile(filepath.Join(directory, "checkpoint"))
	if err != nil {
		return err
	}
	tree, err := checkpoint(keys, text)
	if err != nil {
		return err
	}
	files := layout(directory)
	var records [][]byte
	for index := int64(0); index*256 < tree.N; index++ {
		width := int(min(256, tree.N-index*256))
		bundle, err := os.ReadFile(files.path(tlog.Tile{H: 8, L: -1, N: index, W: width}))
		if err != nil {
			return err
		}
		for range width {
			if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
				return fmt.Errorf("bundle %d breaks off", index)
			}
			end := 2 + int(binary.BigEndian.Uint16(bundle))
			records, bundle = append(records, bundle[2:end]), bundle[end:]
		}
		if len(bundle) > 0 {
			return fmt.Errorf("bundle %d goes on", index)
		}
	}
	// Reads each hash through its tiles up to the root, and refuses what does not lead there.
	reader := tlog.TileHashReader(tree, files)
	var wanted []int64
	for index := range records {
		wanted = append(wanted, tlog.StoredHashIndex(0, int64(index)))
	}
	found, err := reader.ReadHashes(wanted)
	if err != nil {
		return err
	}
	for index, record := range records {
		if tlog.RecordHash(record) != found[index] {
			return fmt.Errorf("record %d is not the one in the tree", index)
		}
	}
	fmt.Println(tree.N)
	for _, record := range records {
		fmt.Printf("%s\n", record)
	}
	return nil
}
