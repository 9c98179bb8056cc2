/* A Worker for pages opened from the file system, where browsers allow none: the script runs in a hidden frame.
 *
 * The site's search asks for a worker. Over http the browser's own does; this one has what the search uses of it,
 * `postMessage` and the event `message`, both ways. */
"use strict"

if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.srcdoc = "<!doctype html><title>worker</title>"
      this.inside = new Promise(resolve => {
        frame.onload = () => {
          const inside = frame.contentWindow
          inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
          const script = inside.document.createElement("script")
          script.src = url
          script.onload = () => resolve(inside)
          inside.document.head.append(script)
        }
      })
      const attach = () => document.body.append(frame)
      if (document.body) attach()
      else addEventListener("DOMContentLoaded", attach)
    }

    postMessage(data) {
      this.inside.then(inside => inside.dispatchEvent(new inside.MessageEvent("message", { data })))
    }
  }
