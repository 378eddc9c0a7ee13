// The search runs in a Worker, and a browser starts none for a page that was opened from a disk (file://).
// There, a hidden frame takes its place: same origin as the page, with the worker's script in it.

if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.worker = this
      // A worker answers by postMessage(data), which in a frame is another function.
      const script = document.createElement("script")
      script.src = url
      frame.srcdoc = "<script>postMessage = data => frameElement.worker.receive(data)</script>" + script.outerHTML
      const loaded = new Promise(resolve => frame.addEventListener("load", resolve))
      this.frame = loaded.then(() => frame.contentWindow)
      this.terminate = () => frame.remove()
      document.documentElement.append(frame)
    }

    receive(data) {
      this.dispatchEvent(new MessageEvent("message", { data }))
    }

    async postMessage(data) {
      (await this.frame).dispatchEvent(new MessageEvent("message", { data }))
    }
  }
}
