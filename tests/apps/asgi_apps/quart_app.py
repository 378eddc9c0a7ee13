import asyncio
import sys

from quart import Quart, abort, request, send_file, websocket

app = Quart(__name__)
greeting = []


@app.before_serving
async def start():
    greeting.append("hello")


@app.after_serving
async def stop():
    print("shut down", flush=True)


@app.get("/page")
async def page():
    return {"greeting": greeting[0], "agent": request.headers["user-agent"]}


@app.post("/size")
async def size():
    count = 0
    async for piece in request.body:
        count += len(piece)
    return str(count)


@app.get("/events")
async def events():
    async def generate():
        try:
            for number in range(3):
                yield f"data: {number}\n\n"
                await asyncio.sleep(0.01)
            await asyncio.sleep(3600)
        finally:
            print("stream closed", flush=True)

    return generate(), 200, {"Content-Type": "text/event-stream"}


@app.get("/later")
async def later():
    async def work():
        await asyncio.sleep(0.2)
        print("background done", flush=True)

    app.add_background_task(work)
    return "soon"


@app.get("/in_thread")
async def in_thread():
    return await asyncio.to_thread(lambda: "from a thread")


@app.get("/file")
async def file():
    return await send_file(sys.executable)


@app.get("/fails")
async def fails():
    raise ValueError("as told")


@app.websocket("/echo")
async def echo():
    await websocket.accept(subprotocol="chat")
    while True:
        await websocket.send(await websocket.receive())


@app.websocket("/ticks")
async def ticks():
    while True:
        await websocket.send(b"tick")
        await asyncio.sleep(0.01)


@app.websocket("/denied")
async def denied():
    abort(401, "not you")


@app.websocket("/breaks")
async def breaks():
    await websocket.accept()
    raise ValueError("as told")
