//go:build unix

package statefile

import (
	"errors"
	"os"
)

// syncFolder has a renaming in folder reach the disk.
func syncFolder(folder string) error {
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
