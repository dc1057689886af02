package config
import ("testing";"time";"os";"fmt")
func FuzzHang(f *testing.F) {
	b, _ := os.ReadFile(example); f.Add(b)
	b, _ = os.ReadFile("testdata/good/merged.yaml"); f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		done := make(chan bool)
		go func(){ parse("broker.yaml", data, madeUp); close(done)}()
		select { case <-done: case <-time.After(3*time.Second): os.WriteFile(fmt.Sprintf("/tmp/exp/hang-%d", os.Getpid()), data, 0o644); panic("hang") }
	})
}
