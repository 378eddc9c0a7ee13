"""As little as a FastAPI app can be: what it costs is FastAPI."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def hello():
    return "Hello\n"
